"""Shardings of arguments and outputs: `nnx.StateSharding`, and what `nnx.jit` does with `in_shardings`.

Modules travel as a list of their values, whose shardings depend on the structure of the modules. So that one
jitted function serves all structures, values are put into groups, one for each sharding that was given
(`groups.py`), and jax is told the sharding of each group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import jax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from easyflax.nnx.core.sharding import misfit
from easyflax.nnx.core.state import State
from easyflax.nnx.core.tracking import Tracked
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.transforms.axes import (
    UNSPECIFIED,
    FilterMap,
    axes_after,
    axes_of_leaves,
    broadcast,
    is_axis,
    without_objects,
)
from easyflax.nnx.transforms.groups import Groups
from easyflax.nnx.transforms.lift import Outcome, also_return
from easyflax.nnx.transforms.packing import Call, is_slot, leaf_paths, leaf_value


class StateSharding(FilterMap):
    """Shardings (or partition specs) by filter, for a module in `in_shardings`, `out_shardings` of `nnx.jit`
    or in `in_specs`, `out_specs` of `nnx.shard_map`; the first match counts.

    A state whose leaves are shardings, such as `nnx.get_named_sharding` returns, gives each path its own.

    >>> from jax.sharding import PartitionSpec as P
    >>> from easyflax import nnx
    >>> sharding = nnx.StateSharding({nnx.PathContains("kernel"): P("data"), ...: P()})
    >>> len(sharding.shardings)
    2
    """

    @property
    def shardings(self) -> tuple[Any, ...]:
        """The shardings, in the order of the filters."""
        return self.entries


def by_filter(prefix: Any, name: str) -> Any:
    """Returns a tree of shardings with a `StateSharding` in place of each state of shardings.

    Args:
        prefix: what a user gave.
        name: of the transform and its argument, for the error message.

    Raises:
        ValueError: there is a module or variable in it.
    """

    def convert(entry: Any) -> Any:
        if isinstance(entry, State):
            return StateSharding(entry)
        if isinstance(entry, Tracked):
            raise ValueError(
                f"{name} has a {type(entry).__name__}, expected shardings: graph nodes are not allowed as "
                "prefixes. Pass nnx.StateSharding(nnx.state(...)) of a module whose variables hold "
                "shardings."
            )
        return entry

    return jax.tree.map(convert, prefix, is_leaf=lambda value: is_axis(value) or isinstance(value, Tracked))


def replace_none(prefix: Any, replacement: Any) -> Any:
    """Returns a tree of shardings with `replacement` in place of None, also within `StateSharding`s."""

    def convert(entry: Any) -> Any:
        if isinstance(entry, FilterMap):
            return type(entry)([(f, replacement if e is None else e) for f, e in entry.items()])
        return replacement if entry is None else entry

    return jax.tree.map(convert, prefix, is_leaf=is_axis)


class Shardings:
    """The shardings of the arguments and of the output of one jitted function.

    Args:
        in_shardings: as `nnx.jit` takes them.
        out_shardings: likewise.
        static: positions of arguments that are static, and have no sharding.
        bound: the number of leading arguments that `in_shardings` does not count: a method's module.
    """

    def __init__(self, in_shardings: Any, out_shardings: Any, static: Sequence[int], bound: int) -> None:
        self.has_inputs = in_shardings is not None
        self._in = by_filter(in_shardings, "in_shardings of nnx.jit")
        self._out = by_filter(out_shardings, "out_shardings of nnx.jit")
        self._static = frozenset(static)
        self._bound = bound
        self.groups = Groups(UNSPECIFIED, replace_none((self._in, self._out), UNSPECIFIED))

    def of_arguments(self, count: int) -> tuple[Any, ...]:
        """Returns a tree of shardings for each of `count` positional arguments, static ones included.

        Raises:
            ValueError: `in_shardings` is a sequence of another length.
        """
        if not isinstance(self._in, (tuple, list)):
            return tuple(None if i in self._static else self._in for i in range(count))
        given, rest = list(self._in), count - self._bound
        dynamic = [i for i in range(self._bound, count) if i not in self._static]
        if len(given) == rest:
            given = [entry for i, entry in enumerate(given, self._bound) if i not in self._static]
        if len(given) != len(dynamic):
            raise ValueError(
                f"nnx.jit got in_shardings of length {len(given)} for {len(dynamic)} positional arguments "
                "that are not static. Give one entry for each argument, or one sharding for all."
            )
        found = dict(zip(dynamic, given, strict=True))
        return tuple(found.get(i) for i in range(count))

    def for_jax(self, count: int) -> dict[str, Any]:
        """Returns the options of `jax.jit` for `count` positional arguments, behind two of grouped values."""
        groups = None, [None if entry is UNSPECIFIED else entry for entry in self.groups.entries]
        options: dict[str, Any] = {"out_shardings": (without_objects(self._out), groups, None)}
        if self.has_inputs:
            given = [entry for i, entry in enumerate(self.of_arguments(count)) if i not in self._static]
            options["in_shardings"] = (groups, groups, *map(without_objects, given))
        return options

    def numbers(self, call: Call) -> tuple[int, ...]:
        """Returns the group of each leaf of the modules in a call."""
        key = self, call.spec.places
        known = None if call.spec.trees else call.walk.specs.get(key)
        if known is None:
            entries = axes_of_leaves(call, self._for_leaves(call), UNSPECIFIED)
            known = tuple(map(self.groups.entries.index, entries))
            if not call.spec.trees:
                call.walk.specs[key] = known
        return known

    def also_return_sharded(
        self,
        call: Call,
        numbers: Sequence[int],
        values: Sequence[Any],
        out: Any,
        changed: list[Any],
        outcome: Outcome,
    ) -> tuple[list[Any], list[Any], Outcome]:
        """Adds leaves that have a sharding to what a traced function changed: they come back with it, as jax
        returns an output.

        Returns:
            the sharding of each leaf that comes back, the values, and what they are.
        """
        everything, full = also_return(range(len(values)), values, changed, outcome)
        before = [self.groups.entries[number] for number in numbers]
        out_tree = replace_none(self._out, UNSPECIFIED)
        entries = axes_after(call, self._for_leaves(call), before, out, out_tree, full, UNSPECIFIED)
        known = set(outcome.leaves)
        kept = [i for i, leaf in enumerate(full.leaves) if leaf in known or entries[i] is not UNSPECIFIED]
        outcome = dataclasses.replace(full, leaves=tuple(full.leaves[i] for i in kept))
        return [entries[i] for i in kept], [everything[i] for i in kept], outcome

    def _for_leaves(self, call: Call) -> tuple[Any, ...]:
        return tuple(replace_none(entry, UNSPECIFIED) for entry in self.of_arguments(len(call.args)))

    def check_no_keywords(self, kwargs: Mapping[str, Any]) -> None:
        """Raises a TypeError if arguments are left that `in_shardings` has no place for."""
        if kwargs:
            raise TypeError(
                f"nnx.jit with in_shardings got the keyword arguments {sorted(kwargs)}, which in_shardings "
                "has no place for. Make them positional arguments of the function."
            )

    def explain(self, call: Call, error: Exception) -> NoReturn:
        """Raises an error that names the argument whose sharding does not fit, if one can be found; else
        `error`."""
        given = [self.groups.entries[number] for number in self.numbers(call)] if self.has_inputs else []
        where = places_of_leaves(call)
        found = [(where[i], leaf_value(call, i), entry) for i, entry in enumerate(given)]
        for i, entry in enumerate(self.of_arguments(len(call.args))):
            pairs = broadcast(entry, call.args[i]) if i not in self._static else []
            found += [(f"argument {i}", leaf, sharding) for leaf, sharding in pairs if not is_slot(leaf)]
        check_fits(found, "nnx.jit got in_shardings with", error)
        _check_lie(found, error)
        raise error


def places_of_leaves(call: Call) -> list[str]:
    """Returns where each leaf of the modules in a call is, for error messages."""
    arguments = {root: place for place, root in call.spec.places}
    return [
        f"argument {arguments[root]}, '{'/'.join(map(str, path))}'"
        if root in arguments
        else f"'{'/'.join(map(str, path))}'"
        for root, *path in leaf_paths(call.spec.graphdef)
    ]


def check_fits(
    found: Iterable[tuple[str, Any, Any]], start: str, error: Exception | None, mesh: Any = None
) -> None:
    """Raises a ValueError about the first sharding that does not fit its value.

    Args:
        found: what it is for, the value, and the sharding.
        start: of the message.
        error: the cause.
        mesh: of partition specs; without it, the active one.
    """
    for where, value, entry in found:
        spec = entry.spec if isinstance(entry, NamedSharding) else entry
        if not isinstance(spec, PartitionSpec) or not hasattr(value, "shape"):
            continue
        used = entry.mesh if isinstance(entry, NamedSharding) else mesh or jax.sharding.get_abstract_mesh()
        if used.empty:
            raise ValueError(
                f"{start} {spec} for {where}, but no mesh is active. Call it inside of `with "
                "jax.set_mesh(mesh):`, or give a NamedSharding, which has a mesh."
            ) from error
        why = misfit(tuple(spec), value.shape, used)
        if why is not None:
            raise ValueError(f"{start} {spec} for {where} of shape {value.shape}, but {why}.") from error


def _check_lie(found: Iterable[tuple[str, Any, Any]], error: Exception) -> None:
    """Raises a ValueError about the first array that lies on its devices in another way than its sharding
    says: jax moves no array that was put where it is."""
    for where, value, entry in found:
        array = value.get_raw_value() if isinstance(value, Variable) else value
        if not isinstance(entry, Sharding) or not isinstance(array, jax.Array) or not array.committed:
            continue
        if not array.sharding.is_equivalent_to(entry, array.ndim):
            raise ValueError(
                f"nnx.jit got in_shardings with {entry} for {where}, which lies on its devices as "
                f"{array.sharding} already. Give the sharding that it has, or move it first with "
                "jax.device_put."
            ) from error
