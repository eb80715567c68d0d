"""`nnx.vmap`: functions of modules over a batch of modules, or of inputs, or both."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax

from easyflax.nnx.transforms.axes import (
    axes_after,
    axes_of_arguments,
    axes_of_leaves,
    without_objects,
)
from easyflax.nnx.transforms.groups import Groups
from easyflax.nnx.transforms.lift import (
    Call,
    bound_object,
    named_like,
    pack,
    positional_arguments,
    run,
    unpack,
)
from easyflax.nnx.transforms.metadata import with_axis_metadata

_MISSING: Any = object()


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

    def pure(values: list[Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        out, changed, outcome = run(fun, call.spec, values, args, kwargs, transform="vmap")
        axes = axes_after(call, in_axes, leaf_axes, out, out_axes, outcome)
        return out, groups.sort(changed, axes), outcome

    arg_axes = [without_objects(axis) for axis in in_axes]
    mapped = jax.vmap(
        pure,
        in_axes=(leaf_axes, arg_axes, 0),
        out_axes=(without_objects(out_axes, 0), (None, groups.entries), None),
        **options,
    )
    out, changed, outcome = mapped(call.walk.values(), call.args, call.kwargs)
    return unpack(call, out, groups.join(changed), outcome)
