"""`nnx.vmap`: functions of modules over a batch of modules, or of inputs, or both."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.nnx.core.signatures import keeps_signature
from easyflax.nnx.transforms.axes import (
    Axis,
    axes_after,
    axes_of_arguments,
    axes_of_leaves,
    is_axis,
    without_objects,
)
from easyflax.nnx.transforms.groups import Groups
from easyflax.nnx.transforms.lift import Outcome, run, unpack
from easyflax.nnx.transforms.metadata import with_axis_metadata
from easyflax.nnx.transforms.packing import (
    Call,
    bound_object,
    leaf_paths,
    leaf_places,
    named_like,
    pack,
    positional_arguments,
)

_MISSING: Any = object()


@keeps_signature
def vmap(
    f: Any = _MISSING,
    *,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Hashable | None = None,
    axis_size: int | None = None,
    spmd_axis_name: Hashable | tuple[Hashable, ...] | None = None,
    transform_metadata: Mapping[Any, Any] | None = None,
) -> Any:
    """Maps a function of modules and arrays over an axis, as `jax.vmap` does for arrays.

    Args:
        f: the function; without it, a decorator is returned.
        in_axes: an axis (None: not mapped) for all positional arguments, or a tuple of trees of axes; for a
            module, an axis for all its variables or `nnx.StateAxes` by filter. Keyword arguments are mapped
            over axis 0.
        out_axes: the same for the output; modules may be made inside.
        axis_name: a name for the axis, for collectives inside.
        axis_size: the size of the axis, where no argument has it.
        spmd_axis_name: the mesh axis that the mapped axis is sharded over.
        transform_metadata: `{nnx.PARTITION_NAME: name}` puts `name` (or None) into the sharding metadata of
            variables for the mapped axis, and takes it out inside; other entries do so with other metadata.

    Raises:
        ValueError: arguments share a variable but map it differently; a variable that is not mapped gets a
            different value in each call.

    Example:

        >>> import jax
        >>> from easyflax import nnx
        >>> make = nnx.vmap(lambda key: nnx.Linear(2, 3, rngs=nnx.Rngs(key)))
        >>> make(jax.random.split(jax.random.key(0), 5)).kernel.shape
        (5, 2, 3)
    """
    options = {"axis_name": axis_name, "axis_size": axis_size, "spmd_axis_name": spmd_axis_name}
    if f is _MISSING:
        axes = {"in_axes": in_axes, "out_axes": out_axes, "transform_metadata": transform_metadata}
        return lambda f: vmap(f, **axes, **options)  # type: ignore[arg-type]
    fun, bound = bound_object(f)

    def mapped(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = positional_arguments(fun, (*bound, *args), kwargs)
        call = pack(args, kwargs)
        axes = (None,) * len(bound) + axes_of_arguments(in_axes, len(args) - len(bound), "vmap")
        inner = with_axis_metadata(fun, axes, out_axes, transform_metadata)
        return _map(inner, call, axes, out_axes, options)

    return named_like(f, mapped)


def _map(
    fun: Callable[..., Any], call: Call, in_axes: Sequence[Any], out_axes: Any, options: dict[str, Any]
) -> Any:
    leaf_axes = axes_of_leaves(call, in_axes)
    groups = Groups(in_axes, out_axes, 0)  # for what comes back, whose number is only known once traced
    traced: list[tuple[Outcome, list[Axis]]] = []

    def pure(values: list[Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        out, changed, outcome = run(fun, call.spec, values, args, kwargs, transform="vmap")
        axes = axes_after(call, in_axes, leaf_axes, out, out_axes, outcome)
        traced.append((outcome, axes))
        return out, groups.sort(changed, axes), outcome

    arg_axes = [without_objects(axis) for axis in in_axes]
    mapped = jax.vmap(
        pure,
        in_axes=(leaf_axes, arg_axes, 0),
        out_axes=(without_objects(out_axes, 0), (None, groups.entries), None),
        **options,
    )
    try:
        out, changed, outcome = mapped(call.walk.values(), call.args, call.kwargs)
    except ValueError as error:  # jax numbers what is wrong where we have names
        if traced:
            _check_shared_leaves(call, out_axes, error, *traced[-1])
        else:
            _check_sizes(call, leaf_axes)
        raise
    return unpack(call, out, groups.join(changed), outcome)


def _check_sizes(call: Call, leaf_axes: Sequence[Axis]) -> None:
    """Raises a ValueError if a leaf has no such axis as it is to be mapped over, or one of another size."""
    places = leaf_places(call.spec)
    sizes: dict[int, str] = {}
    for place, value, axis in zip(places, call.walk.values(), leaf_axes, strict=True):
        for shape in map(jnp.shape, jax.tree.leaves(value) if isinstance(axis, int) else ()):
            if not -len(shape) <= axis < len(shape):
                raise ValueError(
                    f"vmap got {place} of shape {shape}, which has no axis {axis} to map over.\nGive it axis "
                    "None, for one value that all calls share, or an axis: nnx.split_rngs(splits=...) for "
                    "random streams, nnx.vmap of a function that makes the module for modules."
                ) from None
            sizes.setdefault(shape[axis], f"{place} (shape {shape}, axis {axis})")
    if len(sizes) > 1:
        shown = ", ".join(f"{size} in {place}" for size, place in list(sizes.items())[:4])
        raise ValueError(
            f"vmap got different sizes of the mapped axis: {shown}. Map over axes of one size."
        ) from None


def _check_shared_leaves(
    call: Call, out_axes: Any, error: ValueError, outcome: Outcome, axes: Sequence[Axis]
) -> None:
    """Raises a ValueError if the function gave a leaf of axis None a value that differs between the calls."""
    shared = [leaf for leaf, axis in zip(outcome.leaves, axes, strict=True) if axis is None]
    entry = re.search(r"out_axes\[1\]\[1\]\[\d+\]\[(\d+)\]", str(error))
    in_output = entry is None and None in jax.tree.leaves(without_objects(out_axes, 0), is_leaf=is_axis)
    if not shared or in_output or "axis spec None" not in str(error):
        return
    names = [shared[int(entry[1])]] if entry and int(entry[1]) < len(shared) else shared
    structure = outcome.after or call.spec.graphdef
    paths = leaf_paths(structure.with_roots((*structure.roots, *outcome.outputs)))
    shown = ", ".join(f"'{'/'.join(map(str, paths[leaf][1:])) or 'the argument itself'}'" for leaf in names)
    axis = re.search(r"batched on axis (-?\d+)", str(error))
    raise ValueError(
        f"at vmap, {shown}: got axis spec None but output was batched on axis {axis[1] if axis else '?'}: "
        "the function gave it a value that differs between the calls, but there is one for all of them.\n"
        "Give it an axis, for example by nnx.StateAxes({nnx.Param: None, ...: 0}), or reduce the value over "
        "the calls (jax.lax.pmean with axis_name)."
    ) from None
