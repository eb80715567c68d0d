"""`transform_metadata`: the names of a variable's axes, while a transform takes one away and puts it back.

`nnx.vmap`, `nnx.scan` and `nnx.pmap` call the user's function on slices. Variables name their axes in their
metadata (`out_sharding`), so a slice must name one axis less, and what is made inside gets a name for the
axis that the transform adds. This is a wrapper around the user's function, inside of the transform.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from easyflax.nnx.core.spmd import PARTITION_NAME, add_axis, remove_axis
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import walk
from easyflax.nnx.transforms.axes import FilterMap, axes_of_arguments, broadcast
from easyflax.nnx.transforms.packing import (
    bound_object,
    is_object,
    leaves_below,
    named_like,
    positional_arguments,
)

_MISSING: Any = object()


def transform_metadata(
    f: Any = _MISSING, *, in_axes: Any = 0, out_axes: Any = 0, partition: str | None
) -> Any:
    """Has a function see its variables with the metadata of slices: for use under `nnx.vmap`, `nnx.scan` and
    the transforms of jax.

    Args:
        f: the function; without it, a decorator is returned.
        in_axes: the axes that the transform around it maps the arguments over, as that transform takes them.
        out_axes: the same for the output.
        partition: the name of the mapped axis in `out_sharding`, taken out for the duration of the call and
            put into that of variables that are made inside; None for an axis that is not sharded.

    Raises:
        ValueError: a variable names its mapped axis otherwise.

    Example:

        >>> import jax
        >>> from easyflax import nnx
        >>> init = nnx.with_partitioning(nnx.initializers.ones_init(), ("in", "out"), eager_sharding=False)
        >>> @nnx.vmap
        ... @nnx.transform_metadata(partition="layers")
        ... def make(key):
        ...     return nnx.Linear(2, 3, kernel_init=init, rngs=nnx.Rngs(key))
        >>> make(jax.random.split(jax.random.key(0), 5)).kernel.out_sharding
        ('layers', 'in', 'out')
    """
    if f is _MISSING:
        return lambda f: transform_metadata(f, in_axes=in_axes, out_axes=out_axes, partition=partition)
    fun, bound = bound_object(f)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = positional_arguments(fun, (*bound, *args), kwargs)
        count = len(args) - len(bound)
        axes = (None,) * len(bound) + axes_of_arguments(in_axes, count, "transform_metadata")
        return with_axis_metadata(fun, axes, out_axes, {PARTITION_NAME: partition})(*args, **kwargs)

    return named_like(f, wrapped)


def with_axis_metadata(
    fun: Callable[..., Any], in_axes: tuple[Any, ...], out_axes: Any, metadata: Mapping[Any, Any] | None
) -> Callable[..., Any]:
    """Returns `fun`, with the metadata of mapped variables adjusted around each call.

    Args:
        in_axes: a tree of axes for each positional argument; keyword arguments have axis 0.
        out_axes: the same for the output.
        metadata: the `transform_metadata` of the transform; when empty, nothing is adjusted.
    """
    if not metadata:
        return fun
    return _WithAxisMetadata(fun, in_axes, out_axes, tuple(metadata.items()))


@dataclasses.dataclass(frozen=True)
class _WithAxisMetadata:
    """Compares by value, for transforms that keep what they compiled for a function."""

    fun: Callable[..., Any]
    in_axes: tuple[Any, ...]
    out_axes: Any
    metadata: tuple[tuple[Any, Any], ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        metadata = dict(self.metadata)
        prefixes = (self.in_axes, 0)
        entered = _mapped_variables([(prefixes, (args, kwargs))])
        for variable, axis in entered:
            remove_axis(variable, axis, metadata)
        try:
            out = self.fun(*args, **kwargs)
        except BaseException:
            for variable, axis in entered:  # the caller's own variables, where no transform is in between
                add_axis(variable, axis, metadata)
            raise
        for variable, axis in _mapped_variables([(prefixes, (args, kwargs)), (self.out_axes, out)]):
            add_axis(variable, axis, metadata)
        return out


def _mapped_variables(trees: Iterable[tuple[Any, Any]]) -> list[tuple[Variable[Any], int]]:
    """Returns the variables in trees that are mapped, each once, with their axes.

    Args:
        trees: pairs of a tree of axes and a tree; where they disagree about a variable the first counts.
    """
    found: dict[int, tuple[Variable[Any], Any]] = {}
    for axes, tree in trees:
        for leaf, spec in broadcast(axes, tree, is_leaf=is_object):
            if not is_object(leaf):
                continue
            seen = walk(leaf)
            for path, number in leaves_below(seen.graphdef, seen.graphdef.roots[0]):
                if number < len(seen.variables):
                    variable = seen.variables[number]
                    axis = spec.map_prefix(path, variable) if isinstance(spec, FilterMap) else spec
                    found.setdefault(id(variable), (variable, axis))
    return [(variable, axis) for variable, axis in found.values() if isinstance(axis, int)]
