"""Looks for the first NaN or infinity of a training step, by doing the step once more, layer by layer.

The forward pass is computed eagerly, and what goes into each layer and comes out of it is looked at. For the
backward pass a zero is added to what each layer returns: the gradient with respect to it is what arrives
there, and the layer between one that is finite and one that is not is the one that is looked for.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from easyflax.data import Batch
from easyflax.layers.layer import Layer
from easyflax.nnx.core.calls import Around, calls_within
from easyflax.train.binding import Arrays, Binding, path_name
from easyflax.train.step import Objective, score

__all__ = ["Finding", "find_nonfinite", "is_finite", "looks_like"]


@dataclass(frozen=True)
class Finding:
    """Where the first value came up that is not finite.

    Attributes:
        where: in words, such as `"the layer 'dense_1' (Dense) in the forward pass"`.
        path: of the layer or parameter, "" where it is none.
        details: what there is to see, line by line.
    """

    where: str
    path: str = ""
    details: tuple[str, ...] = ()


@dataclass
class _Call:
    """A call of a layer.

    Attributes:
        path: of the layer.
        kind: its class.
        name: that of a layer in a list of layers, of others the path.
        given: the arrays that it was called on.
        returned: what it returned, with zeros added.
        is_innermost: whether it called no other layer.
    """

    path: str
    kind: str
    name: str
    given: list[Any] = field(default_factory=list)
    returned: list[Any] = field(default_factory=list)
    is_innermost: bool = True

    @classmethod
    def of(cls, path: Any, module: Any, given: Any) -> _Call:
        """Returns the call of a module that is at a path."""
        place, kind = path_name(path), type(module).__name__
        if not isinstance(module, Layer) or not path or isinstance(path[-1], str):
            return cls(place, kind, place, _floats(given))
        return cls(place, f"{kind}, at {place!r}", module.name, _floats(given))

    @property
    def words(self) -> str:
        """The layer as a message names it."""
        return f"the layer {self.name!r} ({self.kind})" if self.path else f"the model itself ({self.kind})"


def find_nonfinite(
    objective: Objective | None,
    binding: Binding,
    params: Arrays,
    other: Arrays,
    batch: Batch,
    key: jax.Array | None,
) -> Finding | None:
    """Returns where a step on `batch` first meets NaN or infinity; None if it meets none.

    Args:
        objective: what the step computes; None if only the model's own `train_step` knows, then the call of
            the model on `x` is looked at.
        binding: of the model.
        params: the parameters before the step.
        other: the other variables before it.
        batch: on the devices or not.
        key: of the step's random streams.
    """
    return (
        _in_arrays("the data", {"x": batch.x, "y": batch.y, "sample_weight": batch.sample_weight})
        or _in_arrays("the weights before the step", {**params, **other})
        or _forward(objective, binding, params, other, batch, key)
        or (objective and _backward(objective, binding, params, other, batch, key))
    )


def _in_arrays(what: str, arrays: dict[str, Any]) -> Finding | None:
    wrong = {name: array for name, array in arrays.items() if not is_finite(array)}
    details = tuple(f"{name}: {looks_like(array)}" for name, array in wrong.items())
    return Finding(f"{what}: {', '.join(map(repr, wrong))}", next(iter(wrong)), details) if wrong else None


# -- forward


def _forward(
    objective: Objective | None,
    binding: Binding,
    params: Arrays,
    other: Arrays,
    batch: Batch,
    key: jax.Array | None,
) -> Finding | None:
    found: list[Finding] = []

    def around(path: Any, module: Any, call: Any, args: Any, kwargs: Any) -> Any:
        layer = _Call.of(path, module, (args, kwargs))
        inputs = tuple(f"input: {looks_like(array)}" for array in layer.given)
        if not found and not is_finite(layer.given):
            what = f"what {layer.words} is called on, which no layer before it returned"
            found.append(Finding(f"{what}, in the forward pass", layer.path, inputs))
        output = call(*args, **kwargs)
        if not found and not is_finite(output):
            outputs = tuple(f"output: {looks_like(array)}" for array in _floats(output))
            weights = _weights_of(layer.path, {**params, **other})
            found.append(
                Finding(f"{layer.words} in the forward pass", layer.path, inputs + weights + outputs)
            )
        return output

    with _Detoured(binding, around) as detoured:
        if objective is None:
            with suppress(AttributeError, KeyError, NotImplementedError, TypeError, ValueError):
                detoured.apply(params, other, batch.x, training=True, key=key)
            return found[0] if found else None
        scored = score(replace(objective, apply=detoured.apply), params, other, batch, training=True, key=key)
    if found or is_finite(scored.loss):
        return found[0] if found else None
    output = tuple(f"output: {looks_like(array)}" for array in _floats(scored.applied.output))
    targets = tuple(f"y: {looks_like(array)}" for array in jax.tree.leaves(batch.y))
    parts = ", ".join(name for name, value in scored.means.items() if not is_finite(value))
    return Finding(f"the loss ({parts}) of finite outputs", "", output + targets)


# -- backward


def _backward(
    objective: Objective, binding: Binding, params: Arrays, other: Arrays, batch: Batch, key: jax.Array | None
) -> Finding | None:
    calls: list[_Call] = []

    def loss(params: Arrays, zeros: list[Any] | None) -> tuple[jax.Array, list[Any]]:
        calls.clear()
        with _Detoured(binding, _adding(calls, zeros)) as detoured:
            scored = score(
                replace(objective, apply=detoured.apply), params, other, batch, training=True, key=key
            )
        return scored.loss, [call.returned for call in calls]

    _, returned = loss(params, None)
    zeros = [[jnp.zeros_like(array) for array in arrays] for arrays in returned]
    grads, arriving = jax.grad(lambda *args: loss(*args)[0], argnums=(0, 1))(params, zeros)
    return _first_backward(calls, arriving, grads)


def _adding(calls: list[_Call], zeros: list[Any] | None) -> Around:
    """Returns what notes the calls of layers, in the order in which they end, and adds zeros to outputs."""
    running: list[_Call] = []

    def around(path: Any, module: Any, call: Any, args: Any, kwargs: Any) -> Any:
        noted = _Call.of(path, module, (args, kwargs))
        for outer in running:
            outer.is_innermost = False
        running.append(noted)
        output = call(*args, **kwargs)
        running.pop()
        leaves, structure = jax.tree.flatten(output)
        places = [place for place, leaf in enumerate(leaves) if _is_float(leaf)]
        for place, zero in zip(places, zeros[len(calls)] if zeros is not None else [0] * len(places)):
            leaves[place] = leaves[place] + zero
        noted.returned = [leaves[place] for place in places]
        calls.append(noted)
        return structure.unflatten(leaves)

    return around


def _first_backward(calls: list[_Call], arriving: list[Any], grads: Arrays) -> Finding | None:
    """Returns the layer that makes a gradient that is not finite of one that is."""
    pairs = [(call, arrived) for call, arrived in zip(calls, arriving) if call.is_innermost]
    wrong = [place for place, (_, arrived) in enumerate(pairs) if not is_finite(arrived)]
    if wrong:
        call, arrived = pairs[wrong[-1]]  # the first on the way back
        takers = [other for other in pairs[wrong[-1] + 1 :] if _takes(other[0], call)]
        details = tuple(f"gradient of the output of {call.name!r}: {looks_like(one)}" for one in arrived)
        if not takers:
            where = (
                f"what is computed of the output of {call.words}, which may be the loss, in the backward pass"
            )
            return Finding(where, call.path, details)
        taker, its_gradient = takers[-1]
        seen = [f"input: {looks_like(array)}" for array in taker.given]
        seen += [f"gradient of its output: {looks_like(one)}" for one in its_gradient]
        return Finding(f"{taker.words} in the backward pass", taker.path, (*seen, *details))
    found = _in_arrays("the gradients", grads)
    return None if found is None else replace(found, where=f"{found.where}, in the backward pass")


def _takes(call: _Call, other: _Call) -> bool:
    """Says whether a call was given what another one returned."""
    return any(given is returned for given in call.given for returned in other.returned)


# -- the step once more


class _Detoured(Binding):
    """A binding whose modules are called by way of a function, within a `with` block."""

    def __init__(self, binding: Binding, around: Around):
        vars(self).update(vars(binding))
        self._remat = None  # values are looked at as they are computed
        self._around = around
        self._stack = ExitStack()

    def __enter__(self) -> _Detoured:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def rebuild(self, values: Arrays) -> Any:
        """Returns a new module with `values`, whose calls take the detour."""
        module = super().rebuild(values)
        self._stack.enter_context(calls_within(self._called(module), self._around))
        return module


# -- arrays


def is_finite(tree: Any) -> bool:
    """Says whether all numbers in a tree of arrays are finite; those of a trace are taken to be."""
    arrays = [array for array in _floats(tree) if not isinstance(array, Tracer)]
    return all(bool(jnp.all(jnp.isfinite(array))) for array in arrays)


def looks_like(array: Any) -> str:
    """Returns shape, dtype and range of an array as text, and how many of its numbers are not finite.

    Examples:
        >>> looks_like(jnp.array([1.0, -2.0, jnp.nan, jnp.inf]))
        'float32 (4,), 1 NaN, 1 infinite, the others from -2 to 1'
        >>> looks_like(np.arange(3))
        'int64 (3,), from 0 to 2'
    """
    if isinstance(array, Tracer):
        return f"{array.dtype} {array.shape}"
    values = np.asarray(array).astype(float)
    finite = values[np.isfinite(values)]
    parts = [f"{array.dtype} {tuple(values.shape)}"]
    counts = {"NaN": np.isnan(values).sum(), "infinite": np.isinf(values).sum()}
    parts += [f"{count} {name}" for name, count in counts.items() if count]
    if finite.size:
        others = "the others " if finite.size < values.size else ""
        parts.append(f"{others}from {finite.min():.6g} to {finite.max():.6g}")
    return ", ".join(parts)


def _weights_of(path: str, arrays: Arrays) -> tuple[str, ...]:
    """Returns how the weights right below a path look."""
    prefix = f"{path}." if path else ""
    own = {name: array for name, array in arrays.items() if name.startswith(prefix) and _is_float(array)}
    below = {name[len(prefix) :]: array for name, array in own.items()}
    return tuple(f"{name}: {looks_like(array)}" for name, array in below.items() if "." not in name)


def _floats(tree: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if _is_float(leaf)]


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
