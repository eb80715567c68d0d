"""What the modules of a model return, and how much they compute, found out by a call on shapes alone."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax.layers import abstract
from easyflax.layers.specs import ArraySpec
from easyflax.layers.symbolic import Symbolic
from easyflax.nnx.core.calls import CallInfo, recorded_calls
from easyflax.nnx.transforms.tabulate import trace_calls
from easyflax.train.binding import Binding, call_in_mode

__all__ = ["Measures", "specs_of_rows", "with_free_rows"]

Path = tuple[Any, ...]


class Measures:
    """Outputs and floating-point operations of the modules in a model, in inference mode.

    Args:
        module: the model; it is only read.
        specs: `jax.ShapeDtypeStruct`s of a batch, None for free axes; by default what the model was stated
            with. Without either nothing is known.
        with_flops: whether operations are counted.
    """

    def __init__(self, module: Any, specs: Any = None, *, with_flops: bool = False) -> None:
        self._module = module
        self._specs = _stated_specs(module) if specs is None else specs
        self._with_flops = with_flops
        self._paths = {id(inner): path for path, inner in reversed(list(nnx.iter_modules(module)))}

    def output(self, module: Any) -> Any:
        """Returns what the first call of a module in the model returns, in its nesting, as
        `jax.ShapeDtypeStruct`s with None for free axes; None when unknown."""
        return self._outputs.get(self._paths.get(id(module), _NOWHERE))

    def call_number(self, module: Any) -> int:
        """Returns the place of a module in the order of first calls; those not called come last."""
        return self._order.get(self._paths.get(id(module), _NOWHERE), len(self._order))

    def flops(self, module: Any) -> int | None:
        """Returns the operations of one call of a module in the model for one row of the model's input.

        Raises:
            ValueError: the shape of the input is not known.
        """
        return self._flops.get(self._paths.get(id(module), _NOWHERE))

    @cached_property
    def _order(self) -> dict[Path, int]:
        return {path: number for number, path in enumerate(self._outputs)}

    @cached_property
    def _outputs(self) -> dict[Path, Any]:
        if self._specs is None:
            return {}
        binding = Binding(self._module)
        found: dict[Path, Any] = {}

        def forward(inputs: Any) -> list[list[jax.Array]]:
            found.clear()
            copy = _copy(binding)
            with recorded_calls(copy) as calls:
                call_in_mode(copy, inputs, training=False)
            for call in filter(_is_of_module_itself, calls):
                with_mask = call.path != call.module_path
                found.setdefault(call.module_path, call.outputs[0] if with_mask else call.outputs)
            return [[_stand_in(leaf) for leaf in _arrays_in(outputs)] for outputs in found.values()]

        specs = abstract.specs_of(self._specs)
        try:
            outputs = abstract.output_specs(forward, (specs,), {})
        except (TypeError, ValueError) as error:
            if type(error) not in (TypeError, ValueError):
                raise
            raise type(error)(f"{error}{abstract.free_axes_stand_for(specs, error)}") from error
        return {path: _refilled(found[path], leaves) for path, leaves in zip(found, outputs, strict=True)}

    @cached_property
    def _flops(self) -> dict[Path, int | None]:
        if not self._with_flops:
            return {}
        row = jax.tree.map(lambda spec: _with_rows(spec, 1), self._specs)
        if self._specs is None or any(None in spec.shape for spec in jax.tree.leaves(row)):
            raise ValueError(
                "summary: flops=True without sizes for all axes of the input, expected the shape of one row. "
                "Pass for example input_shape=(28, 28, 1)."
            )

        def call(module: Any, inputs: Any) -> None:
            call_in_mode(module, inputs, training=False)

        calls = trace_calls(_copy(Binding(self._module)), call, (row,), {}, ["flops"])
        found: dict[Path, int | None] = {}
        for one in filter(_is_of_module_itself, calls):
            found.setdefault(one.module_path, one.measured["flops"])
        return found


_NOWHERE = ("not in the model",)


def specs_of_rows(input_shape: Any) -> Any:
    """Returns specs of a batch of rows of `input_shape`, a shape or a nesting of shapes.

    Args:
        input_shape: tuples of sizes, None for free axes, or `jax.ShapeDtypeStruct`s for other dtypes than
            float32.

    Raises:
        ValueError: there is something else than sizes in it.
    """

    def spec(leaf: Any) -> ArraySpec:
        shape = leaf.shape if abstract.is_spec(leaf) else leaf
        if not isinstance(shape, tuple) or not all(map(_is_size, shape)):
            raise ValueError(
                f"summary: input_shape holds {leaf!r}, expected the shape of one row. Pass for example "
                f"input_shape=(28, 28, 1); the length of lines is line_length=."
            )
        return ArraySpec((None, *shape), getattr(leaf, "dtype", "float32"))

    return jax.tree.map(spec, input_shape, is_leaf=lambda leaf: not isinstance(leaf, dict | list))


def _is_size(size: Any) -> bool:
    return size is None or (isinstance(size, int) and size > 0)


def _stated_specs(module: Any) -> Any:
    stated = getattr(module, "stated", None)
    if stated is None:
        return None
    return jax.tree.map(
        lambda value: ArraySpec(value.shape, value.dtype),
        stated[0],
        is_leaf=lambda leaf: isinstance(leaf, Symbolic),
    )


def _is_of_module_itself(call: CallInfo) -> bool:
    """Says whether that is a call of a module, and not of another method."""
    return call.path == call.module_path


def _arrays_in(outputs: Any) -> list[Any]:
    leaves = [leaf for leaf in jax.tree.leaves(outputs) if abstract.is_spec(leaf)]
    return [leaf for leaf in leaves if not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)]


def _stand_in(spec: Any) -> jax.Array:
    return jnp.zeros(spec.shape, spec.dtype)  # within a trace: nothing is made


def _refilled(outputs: Any, leaves: Any) -> Any:
    """Returns `outputs` with `leaves` in the places of `_arrays_in`."""
    found = dict(zip(map(id, _arrays_in(outputs)), leaves, strict=True))
    return jax.tree.map(lambda leaf: found.get(id(leaf), leaf), outputs)


def _copy(binding: Binding) -> Any:
    params, other = binding.arrays()
    return binding.rebuild({**params, **other})


def with_free_rows(specs: Any) -> Any:
    """Returns specs with None for the first axis."""
    return jax.tree.map(lambda spec: _with_rows(spec, None), specs)


def _with_rows(spec: Any, rows: int | None) -> Any:
    shape = (rows, *spec.shape[1:]) if spec.shape else ()
    return ArraySpec(shape, spec.dtype) if None in shape else jax.ShapeDtypeStruct(shape, spec.dtype)
