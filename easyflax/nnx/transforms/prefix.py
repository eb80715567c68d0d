"""`nnx.prefix`: axes for what a function will be called with, by filters or by a function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from easyflax.nnx.core.filters import Filter, Path, to_predicate
from easyflax.nnx.core.graph import leaves_with_paths
from easyflax.nnx.core.tracking import Tracked
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import path_part, walk
from easyflax.nnx.transforms.axes import StateAxes

__all__ = ["prefix"]

Rule = Callable[[Path, Any], Any]


def prefix(node: Any, filter_map: Mapping[Filter, Any] | Rule, /) -> Any:
    """Returns `node` with a `StateAxes` in place of each module, and an axis in place of each variable and
    array: for the `in_axes` and `out_axes` of `nnx.vmap`, `nnx.scan` and `nnx.pmap`.

    >>> import jax.numpy as jnp
    >>> from easyflax import nnx
    >>> both = {"scale": nnx.Param(jnp.array(2)), "steps": nnx.BatchStat(jnp.arange(3))}
    >>> axes = nnx.prefix(both, {nnx.Param: None, nnx.BatchStat: 0})
    >>> axes
    {'scale': None, 'steps': 0}
    >>> nnx.vmap(lambda both: both["scale"] * both["steps"], in_axes=(axes,))(both).tolist()
    [0, 2, 4]

    Args:
        node: a module, a variable, or a container of these and arrays.
        filter_map: axes by filter, of which the first that matches counts; or a function `(path, leaf) ->
            axis`. Paths begin at `node`.

    Raises:
        ValueError: no filter matches one of the leaves.
    """
    rule = _by_filter(filter_map) if isinstance(filter_map, Mapping) else filter_map

    def axes(entries: Any, leaf: Any) -> Any:
        path = tuple(path_part(entry) for entry in entries)
        if not isinstance(leaf, Tracked) or isinstance(leaf, Variable):
            return rule(path, leaf)
        given = [rule((*path, *below), value) for below, value in leaves_with_paths(walk(leaf))]
        if isinstance(filter_map, Mapping):
            return StateAxes([(_Below(path, f) if path else f, axis) for f, axis in filter_map.items()])
        distinct = [axis for position, axis in enumerate(given) if axis not in given[:position]]
        return StateAxes([(_Gives(path, rule, axis), axis) for axis in distinct])

    return jax.tree_util.tree_map_with_path(axes, node, is_leaf=lambda leaf: isinstance(leaf, Tracked))


def _by_filter(axes: Mapping[Filter, Any]) -> Rule:
    predicates = [(to_predicate(filter), axis) for filter, axis in axes.items()]

    def rule(path: Path, leaf: Any) -> Any:
        for predicate, axis in predicates:
            if predicate(path, leaf):
                return axis
        raise ValueError(
            f"No filter matched the {type(leaf).__name__} at '{'/'.join(map(str, path))}', expected one for "
            f"each leaf: the filters given to prefix are {list(axes)}. Add one, or `...` as the last for all "
            "that remain."
        )

    return rule


@dataclasses.dataclass(frozen=True)
class _Below:
    """A filter whose paths begin further up than at the module."""

    base: Path
    filter: Filter

    def __call__(self, path: Path, value: Any) -> bool:
        return to_predicate(self.filter)((*self.base, *path), value)


@dataclasses.dataclass(frozen=True)
class _Gives:
    """The leaves for which a rule gives a certain axis."""

    base: Path
    rule: Rule
    axis: Any

    def __call__(self, path: Path, value: Any) -> bool:
        return self.rule((*self.base, *path), value) == self.axis
