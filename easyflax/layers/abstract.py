"""Calls of modules on shapes: nothing is computed, and layers without weights yet get them.

A module is called under `jax.eval_shape` on a copy of itself, so that whatever the call changes is lost with
the copy, also the weights that layers in it make when they are called. Those layers say so: what they are
copies of is then built in the same way, outside of the trace. That may bring up new layers inside of it,
which is why it is repeated until nothing is left.

Axes that are free, None in a shape, stand for any size. The call is traced for two sizes: what differs
between the two outputs is free in the output. One time is enough where nothing but the first axis is free,
and the output has the size that stood for it there, and no other size that might depend on it.

What was found is kept by the structure of what was called, as `jax.jit` keeps compiled functions: a network
of many equal blocks is traced as one block.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax import masks, random
from easyflax.layers.specs import ArraySpec
from easyflax.nnx.core.naming import describe

__all__ = [
    "free_axes_stand_for",
    "is_spec",
    "output_specs",
    "shapes_for_build",
    "specs_of",
    "specs_of_shapes",
    "with_rows",
]

# For the first axis, and for others; with many divisors, since networks halve and reshape. Of the first one
# there is a rare prime factor, too.
_RARE = 17
_SIZES = ((240 * _RARE, 960), (480 * _RARE, 1920))
_MOST_KNOWN = 1024
_known: dict[Any, Any] = {}


def output_specs(call: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Returns the shapes and dtypes of what `call(*args, **kwargs)` returns.

    Args:
        call: a module or a function.
        args: arguments, in which `ArraySpec`s, with None for free axes, stand for arrays.
        kwargs: likewise.

    Returns:
        specs, with None for free axes, in the nesting of the output.
    """
    leaves, structure = jax.tree.flatten((tuple(args), kwargs), is_leaf=_is_leaf)
    key = _structure_of(call, leaves, structure)
    if key is None:
        return _new_output_specs(call, leaves, structure)
    if key not in _known:
        if len(_known) >= _MOST_KNOWN:
            _known.pop(next(iter(_known)))
        _known[key] = _new_output_specs(call, leaves, structure)
    return _known[key]


def _structure_of(call: Any, leaves: Sequence[Any], structure: Any) -> Any:
    """Returns what the output's specs depend on; None where that cannot be told, or layers are to be
    built."""
    if any(hasattr(leaf, "__array__") or isinstance(leaf, nnx.Pytree) for leaf in leaves):
        return None
    if isinstance(call, nnx.Pytree):
        if any(getattr(module, "built", True) is False for _, module in nnx.iter_graph(call)):
            return None
        graphdef, state = nnx.split(call)
        held = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state))
        called: Any = graphdef, held
    elif getattr(call, "__closure__", None) is None and hasattr(call, "__name__"):
        called = call
    else:
        return None
    key = (
        called,
        tuple(leaves),
        tuple(map(type, leaves)),
        structure,
    )  # 2 equals 2.0, which gives another dtype
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _new_output_specs(call: Any, leaves: Sequence[Any], structure: Any) -> Any:
    shapes = [leaf.shape for leaf in leaves if is_spec(leaf)]
    while True:
        waiting: list[Any] = []
        outputs = [_traced(call, leaves, structure, _SIZES[0], waiting)]
        if not waiting:
            break
        for layer, layer_args, layer_kwargs in waiting:
            layer.build_for(layer_args, layer_kwargs)
    if any(None in shape[1:] for shape in shapes):
        is_certain = False
    elif any(None in shape for shape in shapes):
        is_certain = all(_keeps_first_axis(output) for output in jax.tree.leaves(outputs[0]))
    else:
        return outputs[0]
    if is_certain:
        return jax.tree.map(_with_free_rows, outputs[0])
    return jax.tree.map(_with_free_axes, outputs[0], _traced(call, leaves, structure, _SIZES[1], []))


def free_axes_stand_for(args: Any, message: Any) -> str:
    """Returns a note for the message of an error that was raised while tracing; "" if it names no size of a
    free axis."""
    specs = [leaf for leaf in jax.tree.leaves(args, is_leaf=_is_leaf) if is_spec(leaf)]
    first = any(spec.shape and spec.shape[0] is None for spec in specs)
    others = any(None in spec.shape[1:] for spec in specs)
    sizes = [str(size) for size, used in zip(_SIZES[0], (first, others), strict=True) if used]
    sizes = [size for size in sizes if size in str(message)]
    return f" ({' and '.join(sizes)} stand for free axes)" if sizes else ""


def is_spec(leaf: Any) -> bool:
    """Says whether a leaf stands for an array."""
    return isinstance(leaf, ArraySpec | jax.ShapeDtypeStruct)


def specs_of_shapes(shapes: Any, dtype: Any) -> Any:
    """Returns specs in the nesting of `shapes`, whose leaves are tuples (or lists) of sizes and None."""
    if isinstance(shapes, dict):
        return {name: specs_of_shapes(shape, dtype) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return ArraySpec(tuple(shapes), dtype)
    return [specs_of_shapes(shape, dtype) for shape in shapes]


def shapes_for_build(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns what `layer.build` is called with for a call with these arguments: a tuple or a dict."""
    for_build = inspect.signature(layer.build).parameters
    parameters = list(for_build)
    if not parameters:
        return ()
    if len(parameters) == 1:
        first = args[0] if args else next(iter(kwargs.values()), None)
        if first is None:
            raise TypeError(
                f"{describe(layer)}: got no array to be called on, expected one. Pass it first: layer(x)."
            )
        return (_shapes(first),)
    signature = inspect.signature(layer.call)
    bound = signature.bind_partial(*args, **kwargs).arguments
    shapes = {f"{name}_shape": _shapes(value) for name, value in bound.items()}
    needed = [name for name, one in signature.parameters.items() if one.default is one.empty]
    shaped = [name.removesuffix("_shape") for name, one in for_build.items() if one.default is one.empty]
    if missing := [name for name in needed if name in shaped and name not in bound]:
        raise TypeError(
            f"{describe(layer)}: called without {missing[0]!r}, expected the arguments "
            f"{', '.join(signature.parameters)}. Pass those without a default."
        )
    return {name: shapes.get(name) for name in parameters}


def _traced(
    call: Any, leaves: Sequence[Any], structure: Any, sizes: tuple[int, int], waiting: list[Any]
) -> Any:
    """Returns the output's specs; layers that would be built are appended to `waiting` with their
    arguments."""
    specs = [leaf for leaf in leaves if is_spec(leaf)]
    arrays = [_with_sizes(spec, sizes) for spec in specs]
    in_masks = [None if (mask := _mask(spec)) is None else _with_sizes(mask, sizes) for spec in specs]

    def run(arrays: list[Any], in_masks: list[Any]) -> Any:
        masks.attach_masks(arrays, in_masks)
        rest = iter(arrays)
        args, kwargs = structure.unflatten([next(rest) if is_spec(leaf) else leaf for leaf in leaves])
        outputs = _noting_copy(call, waiting)(*args, **kwargs)
        return outputs, [masks.mask_of(output) for output in jax.tree.leaves(outputs)]

    with random.without_counting():
        outputs, out_masks = jax.eval_shape(run, arrays, in_masks)
    flat, nest = jax.tree.flatten(outputs)
    return nest.unflatten([_as_spec(*pair) for pair in zip(flat, out_masks, strict=True)])


def _noting_copy(call: Any, waiting: list[Any]) -> Any:
    """Returns a copy of a module, in which each layer that is not built notes when that is to be done."""
    if not isinstance(call, nnx.Pytree):
        return call
    copy = nnx.clone(call)
    for (_, one), (_, other) in zip(nnx.iter_graph(call), nnx.iter_graph(copy), strict=True):
        if getattr(one, "built", True) is False and hasattr(type(one), "_noted_in"):
            object.__setattr__(other, "_noted_in", (one, waiting))
    return copy


def specs_of(tree: Any) -> Any:
    """Returns `tree` with an `ArraySpec`, its first axis free, in place of each array."""

    def spec(leaf: Any) -> Any:
        if isinstance(leaf, nnx.Pytree | nnx.Variable) or is_spec(leaf) or not hasattr(leaf, "shape"):
            return leaf
        shape = tuple(leaf.shape)
        return ArraySpec((None, *shape[1:]) if shape else (), leaf.dtype)

    return jax.tree.map(spec, tree, is_leaf=_is_leaf)


def with_rows(tree: Any) -> Any:
    """Returns specs of arrays and of specs, with two rows where the first axis is free."""
    return jax.tree.map(lambda leaf: _with_sizes(leaf, (2, 8)) if is_spec(leaf) else leaf, specs_of(tree))


def _shapes(tree: Any) -> Any:
    """Returns the shapes of arrays, None for their first axis, and of specs as they are; None for the
    rest."""
    return jax.tree.map(
        lambda leaf: tuple(leaf.shape) if is_spec(leaf) else None, specs_of(tree), is_leaf=_is_leaf
    )


def _is_leaf(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, nnx.Pytree | nnx.Variable)


def _with_sizes(spec: Any, sizes: tuple[int, int]) -> Any:
    shape = tuple(sizes[axis > 0] if size is None else size for axis, size in enumerate(spec.shape))
    is_key = jnp.issubdtype(spec.dtype, jax.dtypes.extended)
    return jax.ShapeDtypeStruct(shape, spec.dtype if is_key else jax.dtypes.canonicalize_dtype(spec.dtype))


def _keeps_first_axis(output: Any) -> bool:
    """Says whether an output surely has the first axis of the inputs, and no other that depends on it."""
    first, *others = output.shape or (0,)
    is_kept = first == _SIZES[0][0] and all(size % _RARE for size in others)
    return is_kept and (output.mask is None or _keeps_first_axis(output.mask))


def _with_free_axes(output: Any, other: Any) -> Any:
    pairs = zip(output.shape, other.shape, strict=True)
    mask = None if output.mask is None else _with_free_axes(output.mask, other.mask)
    return ArraySpec(tuple(size if size == again else None for size, again in pairs), output.dtype, mask)


def _with_free_rows(output: Any) -> Any:
    mask = None if output.mask is None else _with_free_rows(output.mask)
    return ArraySpec((None, *output.shape[1:]), output.dtype, mask)


def _as_spec(output: Any, mask: Any) -> ArraySpec:
    return ArraySpec(output.shape, output.dtype, None if mask is None else _as_spec(mask, None))


def _mask(spec: Any) -> Any:
    return getattr(spec, "mask", None)
