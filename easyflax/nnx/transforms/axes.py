"""How the leaves of modules are mapped by a transform: an axis for each variable, or a sharding.

What is said of axes here holds for shardings (`nnx.jit`, `nnx.shard_map`) as well: they too are given as
prefix trees, by filter for modules, and must agree about what arguments share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.nnx.core.filters import Filter, PathIn, reads_structure_only, to_predicate
from easyflax.nnx.core.graphdef import GraphDef
from easyflax.nnx.core.state import State, to_flat_state
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.transforms.lift import Outcome
from easyflax.nnx.transforms.packing import Call, is_slot, leaf_value, leaves_below

Axis = Any  # an int, None, or Carry; a sharding, None, or UNSPECIFIED


class Carry:
    """In `nnx.scan`: this argument or output is carried from step to step. Used as the class itself,
    `nnx.Carry`."""


UNSPECIFIED: Any = object()  # the mapping of a leaf that yields to any other (see `_agree`)


class FilterMap(Mapping[Filter, Any]):
    """Something for each variable of a module, by filter; the first match counts. Base of `nnx.StateAxes` and
    `nnx.StateSharding`.

    Args:
        by_filter: pairs of a filter and an entry, a mapping of these, or a state with an entry at each path.
    """

    def __init__(self, by_filter: Mapping[Filter, Any] | Iterable[tuple[Filter, Any]], /) -> None:
        if isinstance(by_filter, State):
            paths: dict[Any, list[Any]] = {}
            for path, leaf in to_flat_state(by_filter):
                entry = leaf.get_raw_value() if isinstance(leaf, Variable) else leaf
                paths.setdefault(entry, []).append(path)
            items: Any = [(PathIn(*found), entry) for entry, found in paths.items()]
        else:
            items = by_filter.items() if isinstance(by_filter, Mapping) else by_filter
        self._pairs = tuple(items)
        self._predicates = tuple(to_predicate(filter) for filter, _ in self._pairs)

    @property
    def filters(self) -> tuple[Filter, ...]:
        """The filters, in order."""
        return tuple(filter for filter, _ in self._pairs)

    @property
    def entries(self) -> tuple[Any, ...]:
        """What they select, in the order of the filters."""
        return tuple(entry for _, entry in self._pairs)

    def map_prefix(self, path: tuple[Any, ...], variable: Any) -> Any:
        """Returns the entry for the variable at a path.

        Raises:
            ValueError: no filter matches it.
        """
        for predicate, (_, entry) in zip(self._predicates, self._pairs, strict=True):
            if predicate(path, variable):
                return entry
        raise ValueError(
            f"{type(self).__name__} has no filter for the {type(variable).__name__} at "
            f"'{'/'.join(map(str, path))}': its filters are {list(self.filters)}. "
            "Add one, or `...` as the last for all that remain."
        )

    def __getitem__(self, key: Filter) -> Any:
        for filter, entry in self._pairs:
            if filter == key:
                return entry
        raise KeyError(key)

    def __iter__(self) -> Any:
        return iter(self.filters)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._pairs == other._pairs  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self._pairs)!r})"


class StateAxes(FilterMap):
    """Axes by filter, for a module whose variables are not all mapped alike; the first match counts.

    A state whose leaves are axes gives each path its own.

    >>> from easyflax import nnx
    >>> axes = nnx.StateAxes({nnx.Param: 0, ...: None})
    >>> axes.axes
    (0, None)
    """

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes, in the order of the filters."""
        return self.entries


def is_axis(value: Any) -> bool:
    """Whether `value` is a leaf of a tree of axes."""
    return value is None or value is Carry or isinstance(value, (int, FilterMap))


def broadcast(prefix: Any, tree: Any, is_leaf: Callable[[Any], bool] = is_slot) -> list[tuple[Any, Axis]]:
    """Returns the leaves of `tree`, slots included, with the axis that the tree of axes `prefix` has for
    each."""
    leaves: list[tuple[Any, Axis]] = []

    def spread(axis: Axis, subtree: Any) -> None:
        leaves.extend((leaf, axis) for leaf in jax.tree.leaves(subtree, is_leaf=is_leaf))

    jax.tree.map(spread, prefix, tree, is_leaf=is_axis)
    return leaves


def axes_of_arguments(in_axes: Any, count: int, name: str) -> tuple[Any, ...]:
    """Returns a tree of axes for each of `count` positional arguments.

    Raises:
        ValueError: `in_axes` is a sequence of another length.
    """
    if is_axis(in_axes):
        return (in_axes,) * count
    if isinstance(in_axes, Sequence):
        if len(in_axes) != count:
            raise ValueError(
                f"{name} got in_axes of length {len(in_axes)} for {count} positional arguments. Give one "
                "entry for each argument, or one "
                "axis for all."
            )
        return tuple(in_axes)
    raise TypeError(
        f"{name} got in_axes of type {type(in_axes).__name__}, expected an axis or a tuple with one entry "
        "for each argument."
    )


def axes_of_leaves(call: Call, in_axes: Sequence[Any], of_keywords: Any = 0) -> list[Axis]:
    """Returns the axis of each leaf of the packed modules; not to be changed by the caller.

    Args:
        in_axes: a tree of axes for each positional argument.
        of_keywords: the axis of keyword arguments, which jax maps over axis 0.

    Raises:
        ValueError: two arguments share a variable but map it differently.
    """
    if call.spec.trees or not all(map(_reads_structure_only, (*in_axes, of_keywords))):
        return _find_axes(call, in_axes, of_keywords)
    key = "axes", call.spec.places, tuple(in_axes), of_keywords
    found = call.walk.specs.get(key)
    if found is None:
        found = call.walk.specs[key] = _find_axes(call, in_axes, of_keywords)
    return found


def _reads_structure_only(axis: Any) -> bool:
    if isinstance(axis, StateAxes):
        return all(map(reads_structure_only, axis.filters))
    return is_axis(axis)


def _find_axes(call: Call, in_axes: Sequence[Any], of_keywords: Any) -> list[Axis]:
    graphdef = call.spec.graphdef
    found: dict[int, tuple[Axis, str]] = {}
    for place, root, spec in _places(call, in_axes, of_keywords):
        for path, leaf in leaves_below(graphdef, graphdef.roots[root]):
            axis = _axis_for(spec, path, leaf_value(call, leaf))
            _agree(found, leaf, axis, _named(place, path), type(leaf_value(call, leaf)).__name__)
    return [found[leaf][0] for leaf in range(graphdef.num_leaves)]


def _places(call: Call, in_axes: Sequence[Any], of_keywords: Any) -> list[tuple[str, int, Axis]]:
    """Returns `(argument, root, axis or FilterMap)` for each place that an object was taken from."""
    found: list[tuple[str, int, Axis]] = []
    for place, root in call.spec.places:
        found.append((f"argument {place}", root, of_keywords if isinstance(place, str) else in_axes[place]))
    for place in call.spec.trees:
        if isinstance(place, str):
            pairs = broadcast(of_keywords, call.kwargs[place])
        else:
            pairs = broadcast(in_axes[place], call.args[place])
        found += [(f"argument {place}", leaf.index, axis) for leaf, axis in pairs if is_slot(leaf)]
    return found


def _axis_for(spec: Axis, path: tuple[Any, ...], value: Any) -> Axis:
    return spec.map_prefix(path, value) if isinstance(spec, FilterMap) else spec


def _agree(found: dict[int, tuple[Axis, str]], leaf: int, axis: Axis, where: str, kind: str) -> None:
    """Notes the axis of a leaf; raises if it has another one already."""
    known = found.get(leaf)
    if known is None or known[0] is UNSPECIFIED:
        found[leaf] = axis, where
    elif axis is not UNSPECIFIED and known[0] != axis:
        raise ValueError(
            f"Inconsistent aliasing: the same {kind} has {_shown(known[0])} in {known[1]} and {_shown(axis)} "
            f"in {where}. Map what is shared alike in all arguments and outputs."
        )


def _named(place: str, path: tuple[Any, ...]) -> str:
    return f"{place}, '{'/'.join(map(str, path))}'" if path else place


def _shown(axis: Axis) -> str:
    if axis is Carry:
        return "axis nnx.Carry"
    return f"axis {axis}" if axis is None or isinstance(axis, int) else f"sharding {axis}"


def without_objects(tree: Any, replacement: Axis = None) -> Any:
    """Returns a tree of axes with `replacement` where it has a `FilterMap`, which jax does not know."""
    return jax.tree.map(
        lambda axis: replacement if isinstance(axis, FilterMap) else axis, tree, is_leaf=is_axis
    )


def axes_after(
    call: Call,
    in_axes: Sequence[Any],
    leaf_axes: Sequence[Axis],
    out: Any,
    out_axes: Any,
    outcome: Outcome,
    of_keywords: Any = 0,
) -> list[Axis]:
    """Returns the axis of each leaf that a function changed or made (`outcome.leaves`).

    A leaf that was there before keeps its axis. A new one takes that of the argument, or else of the output,
    that it can be reached from.

    Raises:
        ValueError: a module is an argument and an output, or two outputs, with different axes.
    """
    graphdef = outcome.after or call.spec.graphdef
    origins: Sequence[int | None] = range(graphdef.num_leaves)
    if outcome.after is not None:
        origins = outcome.leaf_origins
    found = {leaf: (leaf_axes[old], "an argument") for leaf, old in enumerate(origins) if old is not None}
    for _, root, spec in _places(call, in_axes, of_keywords) if outcome.after is not None else ():
        for path, leaf in leaves_below(graphdef, graphdef.roots[root]):
            found.setdefault(leaf, (_axis_for(spec, path, _example(graphdef, leaf)), "an argument"))
    for slot, spec in broadcast(out_axes, out):
        if is_slot(slot):
            for path, leaf in leaves_below(graphdef, outcome.outputs[slot.index]):
                example = _example(graphdef, leaf)
                axis = _axis_for(spec, path, example)
                _agree(found, leaf, axis, _named("the output", path), type(example).__name__)
    return [found[leaf][0] for leaf in outcome.leaves]


def _example(graphdef: GraphDef[Any], leaf: int) -> Any:
    """Returns something that filters take for leaf number `leaf`."""
    if leaf >= len(graphdef.variables):
        return jnp.zeros(())
    row = graphdef.variables[leaf]
    return row.type.from_metadata(None, dict(row.metadata))
