"""Traversals: from objects to their structure and their leaves, kept for as long as the structure lasts.

`walk(*roots)` visits everything reachable from the roots once, in the order of sorted attribute names, and
returns a `Walk`: the `GraphDef`, the variables in order, and the places of arrays stored without a variable.
The walk is kept on its first root. Calling
`walk` again returns the same object in constant time, until one of the visited objects says that its
structure changed (`tracking.py`), or a plain list or dict that was visited no longer holds the same items.
Plain containers cannot tell of changes, so their items are compared
by identity at each call.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any

import jax
import numpy as np

from easyflax.errors import TraceContextError
from easyflax.nnx.core.graphdef import (
    ARRAY,
    NODE,
    STATIC,
    VARIABLE,
    GraphDef,
    NodeDef,
    Ref,
    VariableDef,
    static_ref,
)
from easyflax.nnx.core.marks import DATA_TYPES
from easyflax.nnx.core.module import Pytree, sorted_items
from easyflax.nnx.core.state import type_aware
from easyflax.nnx.core.tracking import Token, Tracked, current_trace, running_transform, set_walks
from easyflax.nnx.core.variables import Variable, store_raw

_SCALARS = frozenset((int, float, bool, complex, str, bytes, type(None), type, type(...)))
_exhaust = deque(maxlen=0).extend  # consumes an iterator, at the speed of C
_KEPT_PLACES = 16  # per walk
_KEPT_WALKS = 8  # per first root; more would only keep other roots alive
_Places = tuple[Sequence[int], list[Variable[Any]], list[tuple[Any, Any]]]


class Walk:
    """What a traversal found.

    Attributes:
        graphdef: the structure; `graphdef.roots` are references to the roots.
        nodes: the object of each row of `graphdef.nodes`; None in a walk that is kept, see `walk`.
        variables: the variable of each row of `graphdef.variables`.
        slots: for each array without a variable, the container and the key that it is under.
        token: invalid once the structure has changed; None in a walk that is not kept.
        specs: a place for the lifting mechanism to keep what it derives from this walk.
    """

    __slots__ = (
        "__weakref__",
        "_guards",
        "_opaque",
        "_pinned",
        "_places",
        "_slot_traces",
        "_trace",
        "graphdef",
        "kept_values",
        "nodes",
        "slots",
        "specs",
        "token",
        "variables",
    )

    def __init__(self, roots: tuple[Any, ...], key: Any = None) -> None:
        self.nodes: list[Any] | None = None
        self.variables: list[Variable[Any]] = []
        self.slots: list[tuple[Any, Any]] = []
        self.token = None if key is None else Token(self, roots[0], key)
        self.kept_values: list[Any] | None = None
        self.specs: dict[Any, Any] = {}
        self._guards: list[tuple[Any, Any, Any]] = []
        self._places: dict[int, _Places] = {}
        self._pinned = False
        self._opaque = False
        self._slot_traces: list[Any] = []
        self._trace: Any = None
        self.graphdef: GraphDef[Any] = _Visitor(self).visit(roots)

    def is_current(self) -> bool:
        """Whether the objects still have the structure that was found."""
        token = self.token
        return token is not None and token.valid and (not self._guards or self._items_are_same())

    def values(self) -> list[Any]:
        """Returns the variables' values, followed by the arrays without a variable; not to be changed by the
        caller.

        The list is kept until one of the values changes, since reading many variables takes as long as
        calling a compiled function.
        """
        if self.kept_values is not None:
            return self.kept_values
        values = [variable._raw_value for variable in self.variables]
        if self.slots:
            values += [container[key] for container, key in self.slots]
        if self.token is not None:
            self.kept_values = values
        return values

    def arrays(self) -> list[Any]:
        """Returns the arrays that are stored without a variable."""
        return [container[key] for container, key in self.slots]

    def drop(self) -> None:
        """Ends the keeping of this walk."""
        if self.token is not None:
            self.token.invalidate()
            self.token = None
            self.kept_values = None

    def can_store(self, positions: Iterable[int]) -> bool:
        """Whether `store` can set these leaves; it cannot set arrays inside of tuples and other immutable
        containers."""
        return not self._pinned or all(position < len(self.variables) for position in positions)

    def store(self, positions: Sequence[int], values: Sequence[Any]) -> None:
        """Sets the leaves at `positions` (in the order of `values()`, ascending).

        Raises:
            TraceContextError: a variable belongs to another trace level.
        """
        if self._trace is None or self._trace != current_trace():
            self._check_trace(positions)
        known = self._places.get(id(positions))
        if known is None or known[0] is not positions:
            known = self._find_places(positions)
        _, variables, slots = known
        # A loop that runs in C: storing must not take as long as calling a compiled function.
        _exhaust(map(store_raw, variables, values))
        if slots:
            for (container, key), value in zip(slots, values[len(variables) :], strict=True):
                container[key] = value
        if self.kept_values is not None:
            if len(positions) == len(self.kept_values):
                self.kept_values = list(values)
            else:
                _exhaust(map(self.kept_values.__setitem__, positions, values))
        if self.token is None:
            self._tell_others(positions)
        else:
            for peer in self.token.peers:
                peer.forget_values()

    def _find_places(self, positions: Sequence[int]) -> _Places:
        """Returns the variables and the slots at `positions`; kept, since a compiled function always passes
        the same tuple."""
        count = len(self.variables)
        variables = [self.variables[position] for position in positions if position < count]
        slots = [self.slots[position - count] for position in positions if position >= count]
        if self.token is not None:
            if len(self._places) >= _KEPT_PLACES:
                self._places.clear()
            self._places[id(positions)] = positions, variables, slots
        return positions, variables, slots

    def _tell_others(self, positions: Sequence[int]) -> None:
        """Makes kept walks over the same objects read their values anew, as `peers` do for a kept walk."""
        for position in positions:
            if position < len(self.variables):
                self.variables[position]._value_changed()
        if any(position >= len(self.variables) for position in positions):
            for node in self.nodes or ():
                if isinstance(node, Tracked):
                    node._value_changed()

    def _check_trace(self, positions: Sequence[int]) -> None:
        """Raises a TraceContextError if one of the leaves may not be changed at the running trace level."""
        trace = current_trace()
        paths = self.graphdef.paths()
        made_at = [*(variable._trace for variable in self.variables), *self._slot_traces]
        for position in positions:
            if made_at[position] != trace:
                path = [*paths.variables, *paths.arrays][position]
                where = (
                    "/".join(map(str, path[1:] if len(self.graphdef.roots) > 1 else path)) or "the argument"
                )
                raise TraceContextError(
                    f"'{where}' was changed by a function that is transformed by nnx, but it was made "
                    f"outside of {running_transform()}, which is running around that call.\n"
                    "Use the nnx version of the outer transform and pass the module to it as an argument."
                )
        if all(made == trace for made in made_at):
            self._trace = trace  # nothing to check as long as this trace level runs

    def _items_are_same(self) -> bool:
        for container, keys, values in self._guards:
            if len(container) != len(values):
                return False
            if keys is None:
                if not all(map(is_, container, values)):
                    return False
            elif not (all(map(is_, container, keys)) and all(map(is_, container.values(), values))):
                return False
        return True


def walk(*roots: Any) -> Walk:
    """Returns the traversal from `roots`, a kept one where the structure has not changed.

    Args:
        *roots: modules, variables, states, or plain containers of these.
    """
    if not roots:
        return _EMPTY
    first, *others = roots
    if not isinstance(first, Tracked) or isinstance(first, Variable):
        return Walk(roots)
    key = tuple(map(id, others))
    entries = first._walks
    if entries:
        entry = entries.get(key)
        if entry is not None and entry[0].is_current():
            return entry[0]
    if not all(isinstance(other, Tracked) for other in others):
        return Walk(roots)
    return _keep(first, key, others, Walk(roots, key))


def _keep(first: Tracked, key: tuple[int, ...], others: list[Any], new: Walk) -> Walk:
    """Keeps a walk on its first root, in a way that keeps none of the roots alive.

    An object that is part of a reference cycle is freed only when the garbage collector runs, and with it the
    arrays on the device. So nothing that a kept walk refers to may refer to the modules it was made from.
    """
    if new._opaque:
        new.drop()
        return new
    if first._walks is None:
        set_walks(first, {})
    entries = first._walks
    entries.pop(key, None)
    while len(entries) >= _KEPT_WALKS:
        entries[next(iter(entries))][0].drop()
    new.nodes = None
    root = weakref.ref(first)

    def forget(_: Any) -> None:
        owner = root()
        if owner is not None and owner._walks:
            owner._walks.pop(key, None)

    entries[key] = new, [weakref.ref(other, forget) for other in others]
    return new


class _Visitor:
    """Fills a `Walk`."""

    def __init__(self, result: Walk) -> None:
        self._walk = result
        self._rows: list[NodeDef | None] = []
        self._nodes: list[Any] = []
        result.nodes = self._nodes
        self._variable_rows: list[VariableDef] = []
        self._known: dict[int, Ref] = {}
        self._owners: list[Tracked] = []  # on the way from the root to where we are
        self._keep_alive: list[Any] = []  # made by flattening; their ids in `_known` must not be used again

    def visit(self, roots: tuple[Any, ...]) -> GraphDef[Any]:
        refs = tuple(self._ref(root, None, None, None) for root in roots)
        return GraphDef(refs, tuple(self._rows), tuple(self._variable_rows), len(self._walk.slots))  # type: ignore[arg-type]

    def _ref(self, value: Any, container: Any, key: Any, mark: bool | None) -> Ref:
        kind = type(value)
        if mark is None and kind in _SCALARS:
            return static_ref(value)
        if mark is False:
            return static_ref(value)
        if isinstance(value, Tracked):
            known = self._known.get(id(value))
            if known is not None:
                return known
            if isinstance(value, Variable):
                return self._variable(value)
            if isinstance(value, Pytree):
                return self._reference(
                    value,
                    sorted_items(value),
                    vars(value),
                    value._marks and tuple(sorted(value._marks.items())),
                )
            mapping = value._mapping  # type: ignore[attr-defined]  # a State
            return self._reference(value, _sorted(mapping), mapping, None)
        if isinstance(value, (jax.Array, np.ndarray)) or kind in DATA_TYPES:
            return self._array(value, container, key)
        if kind is tuple:
            return self._tuple(value)
        if kind is list or kind is dict:
            return self._plain(value)
        if not _is_leaf(value):
            return self._foreign(value, mark)
        return self._array(value, container, key) if mark else static_ref(value)

    def _variable(self, variable: Variable[Any]) -> Ref:
        ref = (VARIABLE, len(self._variable_rows))
        self._known[id(variable)] = ref
        metadata = variable._metadata
        self._variable_rows.append(
            VariableDef(type(variable), tuple(sorted(metadata.items())) if metadata else ())
        )
        self._walk.variables.append(variable)
        self._subscribe(variable)
        return ref

    def _subscribe(self, tracked: Tracked) -> None:
        if self._walk.token is not None:
            tracked._subscribe(self._walk.token)

    def _array(self, value: Any, container: Any, key: Any) -> Ref:
        self._walk._slot_traces.append(self._owners[-1]._trace if self._owners else current_trace())
        if container is None:  # within an immutable container: cannot be set, but cannot change either
            self._walk._pinned = True
            container, key = [value], 0
        self._walk.slots.append((container, key))
        return ARRAY, len(self._walk.slots) - 1

    def _reference(self, owner: Any, items: list[tuple[Any, Any]], content: Any, aux: Any) -> Ref:
        ref = self._open(owner)
        if isinstance(owner, Tracked):
            self._subscribe(owner)
            self._owners.append(owner)
        mark_of = (
            owner._mark_of if isinstance(owner, Pytree) and (owner._marks or owner._class_marks) else None
        )
        children = tuple(
            (key, *self._ref(value, content, key, mark_of(key) if mark_of is not None else None))
            for key, value in items
        )
        self._rows[ref[1]] = NodeDef(type(owner), children, aux or None)
        if isinstance(owner, Tracked):
            self._owners.pop()
        return ref

    def _open(self, owner: Any) -> Ref:
        ref = (NODE, len(self._rows))
        self._known[id(owner)] = ref
        self._rows.append(None)
        self._nodes.append(owner)
        return ref

    def _plain(self, owner: list[Any] | dict[Any, Any]) -> Ref:
        known = self._known.get(id(owner))
        if known is not None:
            return known
        if isinstance(owner, list):
            self._walk._guards.append((owner, None, tuple(owner)))
            return self._reference(owner, list(enumerate(owner)), owner, None)
        self._walk._guards.append((owner, tuple(owner), tuple(owner.values())))
        return self._reference(owner, _sorted(owner), owner, None)

    def _tuple(self, value: tuple[Any, ...]) -> Ref:
        children = tuple((i, *self._ref(item, None, None, None)) for i, item in enumerate(value))
        if all(tag == STATIC for _, tag, _ in children):
            return static_ref(value)
        return self._value(value, NodeDef(tuple, children, None))

    def _foreign(self, value: Any, mark: bool | None) -> Ref:
        """A pytree of another library (a named tuple of optax, say): known by value, rebuilt by its
        treedef."""
        entries, treedef = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda node: node is not value)
        self._keep_alive.append(entries)
        children = tuple((path_part(path[0]), *self._ref(child, None, None, mark)) for path, child in entries)
        static = all(tag == STATIC for _, tag, _ in children)
        if isinstance(value, (list, dict)) or not (static or _is_immutable(value)):
            self._walk._opaque = True  # nothing tells when it changes, so it is visited at each call
        elif static:
            return static_ref(value)
        return self._value(value, NodeDef(type(value), children, treedef))

    def _value(self, value: Any, row: NodeDef) -> Ref:
        self._rows.append(row)
        self._nodes.append(value)
        return NODE, len(self._rows) - 1


def _is_immutable(value: Any) -> bool:
    frozen = getattr(getattr(value, "__dataclass_params__", None), "frozen", False)
    return frozen or isinstance(value, (tuple, jax.tree_util.Partial))


def _sorted(mapping: Any) -> list[tuple[Any, Any]]:
    return sorted(mapping.items(), key=lambda item: type_aware(item[0]))


def path_part(entry: Any) -> Any:
    """The part of a path that a jax key entry stands for."""
    for name in ("key", "name", "idx"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return str(entry)


def _is_leaf(value: Any) -> bool:
    return jax.tree_util.all_leaves([value])


_EMPTY = Walk(())
