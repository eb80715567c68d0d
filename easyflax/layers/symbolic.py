"""Values that stand for arrays while a model is stated, and the steps that make them.

    x = Input((28, 28, 1))               # Symbolic (None, 28, 28, 1)
    h = Dense(16)(x)                     # any module, called on a symbolic value, writes down a Step
    y = apply(jnp.concatenate, [h, h], axis=-1)
    z = (y + 1) * 2                      # operators are steps, too

Each step is checked when it is written down: the module is called on shapes alone, and layers that have no
weights yet make them. What does not fit is an error at the line that calls the layer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.nnx as nnx
from easyflax.interop.flax_nnx import adapt_if_flax
from easyflax.layers import abstract
from easyflax.layers.input_layer import InputLayer
from easyflax.layers.layer import Layer
from easyflax.layers.specs import ArraySpec
from easyflax.naming import snake_case
from easyflax.nnx.core.interception import intercept_calls

__all__ = ["Input", "KerasTensor", "Step", "Symbolic", "apply", "name_of", "symbolic_leaves"]


@dataclass(eq=False)
class Step:
    """One call in a graph.

    Attributes:
        function: the module or function that is called.
        args: its arguments, symbolic values among them.
        kwargs: likewise.
        outputs: the symbolic values it returned, in their nesting.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any = field(default=None, repr=False)

    @property
    def inputs(self) -> Any:
        """The symbolic values it was called on: one, or a list."""
        values = symbolic_leaves((self.args, self.kwargs))
        return values[0] if len(values) == 1 else values


class _Named(type):
    def __repr__(cls) -> str:  # in the messages of functions of arrays that are called on one
        return "<class Symbolic, see ef.Input: functions are called on it by ef.apply(function, ...)>"


class Symbolic(metaclass=_Named):
    """Stands for an array in a graph: made by `ef.Input`, and by calling layers on others.

    Arithmetic, comparisons and indexing work as on arrays; for functions of arrays write
    `ef.apply(jnp.concatenate, [a, b], axis=-1)`.

    Args:
        shape: with the batch axis, None for axes of any size.
        dtype: of the array.
        step: the call that made it; without one it is an input, as `ef.Input` makes it.
        mask: what is known of the mask that goes with the array, or None.
        name: of the input.

    Attributes:
        shape: None for axes of any size, the first one being the batch.
        dtype: of the array.
        mask: what is known of the mask that goes with the array, or None.
        step: the call that made it.
        is_used: whether it is an argument of a call.
    """

    __slots__ = ("dtype", "is_used", "mask", "shape", "step")

    def __init__(
        self,
        shape: Any,
        dtype: Any = "float32",
        step: Step | None = None,
        mask: Any = None,
        name: str | None = None,
    ) -> None:
        if step is None:
            layer = InputLayer(batch_shape=shape, dtype=dtype, name=name)
            step = _input_step(layer)
            step.outputs = self
        self.shape, self.dtype, self.step = tuple(shape), np.dtype(dtype), step
        self.mask = mask
        self.is_used = False

    @property
    def name(self) -> str:
        """The name of what made it."""
        return name_of(self.step.function)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<Symbolic {self.shape} {self.dtype} of '{self.name}'>"

    def __easyflax_call__(self, function: Any, args: Any, kwargs: Any) -> Any:
        return apply(function, *args, **kwargs)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            f"A function of arrays was called on the symbolic output of '{self.name}', shape {self.shape}, "
            "expected an array. Write ef.apply(function, ...), for example ef.apply(jnp.concatenate, [a, b], "
            "axis=-1), or use a layer."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or not hasattr(jnp, ufunc.__name__):
            return NotImplemented
        return apply(getattr(jnp, ufunc.__name__), *inputs, **kwargs)

    def __bool__(self) -> bool:
        raise TypeError(
            f"The symbolic output of '{self.name}', shape {self.shape}, was used as a condition, expected "
            "a value that is known now. Use ef.apply(jnp.where, condition, a, b)."
        )

    def __len__(self) -> int:
        if not self.shape or self.shape[0] is None:
            raise TypeError(f"len() of the symbolic output of '{self.name}', shape {self.shape}: it is free.")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        return apply(operator.getitem, self, key)

    def astype(self, dtype: Any) -> Any:
        """Returns it in another dtype."""
        return apply(jnp.astype, self, dtype)

    def reshape(self, *shape: Any) -> Any:
        """Returns it in another shape; -1 for one axis."""
        return apply(jnp.reshape, self, shape[0] if len(shape) == 1 else shape)


def _operator(function: Callable[..., Any]) -> tuple[Any, Any]:
    def forward(self: Symbolic, *other: Any) -> Any:
        return apply(function, self, *other) if all(map(_is_operand, other)) else NotImplemented

    def reflected(self: Symbolic, other: Any) -> Any:
        return apply(function, other, self) if _is_operand(other) else NotImplemented

    return forward, reflected


KerasTensor = Symbolic  # its name in Keras

for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"):
    _forward, _reflected = _operator(getattr(operator, _name))
    setattr(Symbolic, f"__{_name.rstrip('_')}__", _forward)
    setattr(Symbolic, f"__r{_name.rstrip('_')}__", _reflected)
for _name in ("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge"):
    setattr(Symbolic, f"__{_name}__", _operator(getattr(operator, _name))[0])


def _is_operand(value: Any) -> bool:
    return isinstance(
        value, Symbolic | jax.Array | np.ndarray | np.generic | nnx.Variable | int | float | complex
    )


def Input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    *,
    batch_shape: Any = None,
    name: str | None = None,
) -> Any:
    """Returns a symbolic input of a model.

    Args:
        shape: of one row, such as `(28, 28, 1)`; None for an axis of any size.
        batch_size: of the batches, if it is always the same.
        dtype: what inputs are converted to; float32 by default.
        batch_shape: the shape with the batch axis, in place of `shape` and `batch_size`.
        name: by which a dict of inputs is matched.

    Raises:
        ValueError: there is no shape, or something else than sizes in it.

    Examples:
        >>> Input((28, 28, 1)).shape
        (None, 28, 28, 1)
    """
    layer = InputLayer(shape, batch_size, dtype, batch_shape=batch_shape, name=name)
    return input_of(layer)


def input_of(layer: InputLayer) -> Symbolic:
    """Returns the symbolic value of an input layer, the same at each call."""
    calls = getattr(layer, "_symbolic_calls", None)
    if not calls:
        step = _input_step(layer)
        step.outputs = Symbolic(layer.batch_shape, layer.dtype, step)
        return step.outputs
    return calls[0].outputs


def _input_step(layer: InputLayer) -> Step:
    intercept_calls(nnx.Module)
    step = Step(layer, (), {})
    _remember(layer, step)
    return step


def apply(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Calls a function of arrays, or a module, on symbolic values.

    Args:
        function: such as `jnp.concatenate`.
        *args: symbolic values, also in lists, tuples and dicts, arrays, and whatever else it takes.
        **kwargs: likewise.

    Returns:
        symbolic values in the nesting that the function returns; without symbolic arguments what it returns.

    Raises:
        TypeError: `function` cannot be called.
        ValueError, TypeError: what the function raises on these shapes, with the names of the layers.

    Examples:
        >>> a, b = Input((4,)), Input((3,))
        >>> apply(jnp.concatenate, [a, b], axis=-1).shape
        (None, 7)
    """
    if not callable(function) or isinstance(function, type):
        raise TypeError(
            f"apply: got {function!r}, expected a function or a module. Pass it first, then its inputs."
        )
    function = adapt_if_flax(function)
    values = symbolic_leaves((args, kwargs))
    if not values:
        return function(*args, **kwargs)
    step = Step(function, args, kwargs)
    specs = _checked_call(step)
    if isinstance(function, Layer):
        specs = function._nested(specs)
    step.outputs = jax.tree.map(lambda spec: Symbolic(tuple(spec.shape), spec.dtype, step, spec.mask), specs)
    for value in values:
        value.is_used = True
    if isinstance(function, Layer):
        _remember(function, step)
    return step.outputs


def symbolic_leaves(tree: Any) -> list[Symbolic]:
    """Returns the symbolic values in a nesting, in order."""
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=_is_leaf) if isinstance(leaf, Symbolic)]


def name_of(function: Any) -> str:
    """Returns the name of a module or function in a graph, as it is before the model counts."""
    if isinstance(function, nnx.Module):
        name = getattr(function, "name", None)
        return name if isinstance(name, str) else snake_case(type(function).__name__)
    return getattr(function, "__name__", None) or name_of_callable(function)


def name_of_callable(function: Any) -> str:
    """Returns a name for a callable without one, such as a partial."""
    inner = getattr(function, "func", None)
    return name_of(inner) if inner is not None else snake_case(type(function).__name__)


def _remember(layer: Any, step: Step) -> list[Step]:
    calls = [*(getattr(layer, "_symbolic_calls", None) or ()), step]
    object.__setattr__(layer, "_symbolic_calls", calls)
    return calls


def _checked_call(step: Step) -> Any:
    """Returns the specs of what a step returns; layers without weights are built."""
    as_specs = jax.tree.map(_as_spec, (step.args, step.kwargs), is_leaf=_is_leaf)
    args, kwargs = as_specs
    try:
        if isinstance(step.function, Layer) and not step.function.built:
            step.function.build_for(args, kwargs)
        return abstract.output_specs(step.function, args, kwargs)
    except (TypeError, ValueError) as error:
        kind = type(error) if type(error) in (TypeError, ValueError) else ValueError
        raise kind(f"{_edge(step)}: {error}{abstract.free_axes_stand_for(as_specs, error)}") from error


def _edge(step: Step) -> str:
    """Names the two ends of the edges into a step, for messages."""
    sources = [
        f"{type(value.step.function).__name__} '{value.name}' {value.shape}"
        if isinstance(value.step.function, nnx.Module)
        else f"'{value.name}' {value.shape}"
        for value in symbolic_leaves((step.args, step.kwargs))
    ]
    function = step.function
    what = (
        f"{type(function).__name__} '{name_of(function)}'"
        if isinstance(function, nnx.Module)
        else name_of(function)
    )
    return f"{what} cannot be called on the output of {' and '.join(sources)}"


def _as_spec(leaf: Any) -> Any:
    return ArraySpec(leaf.shape, leaf.dtype, leaf.mask) if isinstance(leaf, Symbolic) else leaf


def _is_leaf(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, Symbolic | nnx.Pytree | nnx.Variable)
