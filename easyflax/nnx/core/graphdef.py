"""The structure of a graph of objects, without its arrays: what `nnx.split` calls a graphdef.

A `GraphDef` is two tables and a list of roots. A row of `nodes` is a module or container: its type, and for
each attribute the row that the attribute refers to; a row of `variables` is a variable's kind and metadata.
Rows refer to each other by number, so a shared
module is one row with two references, a cycle is nothing special, and comparing or hashing a structure is
comparing plain tuples.

References are pairs `(tag, payload)`:

    (NODE, i)      row i of `nodes`
    (VARIABLE, i)  row i of `variables`
    (ARRAY, i)     the i-th array that is stored without a variable
    (STATIC, (value, kind))  anything else, by value; `kind` tells 1 from 1.0 and True
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np

from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.module import Pytree, new_object, set_marks
from easyflax.nnx.core.state import State, empty_state
from easyflax.nnx.core.tracking import Tracked, current_trace
from easyflax.nnx.core.variables import Variable

A = TypeVar("A")
Ref = tuple[int, Any]

NODE, VARIABLE, ARRAY, STATIC = range(4)


_MODULE, _STATE, _CONTAINER, _VALUE = range(4)  # kinds of rows


class NodeDef(NamedTuple):
    """A row of `GraphDef.nodes`."""

    type: type
    children: tuple[tuple[Any, int, Any], ...]  # (key, tag, payload)
    aux: Any  # modules: their marks; pytrees of other libraries: their treedef

    @property
    def is_reference(self) -> bool:
        """Whether nodes of this type are known by identity; the others (tuples, foreign pytrees) are
        values."""
        return self.type in (list, dict) or issubclass(self.type, Tracked)


def _row_kind(row: NodeDef) -> int:
    if row.type in (list, dict):
        return _CONTAINER
    if issubclass(row.type, Pytree):
        return _MODULE
    return _STATE if row.is_reference else _VALUE


class VariableDef(NamedTuple):
    """A row of `GraphDef.variables`."""

    type: type[Variable[Any]]
    metadata: tuple[tuple[str, Any], ...]


class LeafPaths(NamedTuple):
    """Where the leaves of a graph are, first visit first."""

    variables: list[Path]
    arrays: list[Path]


class GraphDef(Generic[A]):
    """The structure of a graph of modules, hashable and comparable by value; a pytree without leaves.

    Attributes:
        roots: references to the objects that were given; one for `nnx.split(model)`.
        nodes: modules and containers.
        variables: kinds and metadata of the variables.
        num_arrays: number of arrays stored without a variable.
    """

    __slots__ = ("_hash", "_paths", "_row_kinds", "nodes", "num_arrays", "roots", "variables")

    def __init__(
        self,
        roots: tuple[Ref, ...],
        nodes: tuple[NodeDef, ...],
        variables: tuple[VariableDef, ...],
        num_arrays: int,
    ) -> None:
        self.roots = roots
        self.nodes = nodes
        self.variables = variables
        self.num_arrays = num_arrays
        self._hash: int | None = None
        self._paths: LeafPaths | None = None
        self._row_kinds: tuple[int, ...] | None = None

    @property
    def num_leaves(self) -> int:
        """Number of variables and arrays."""
        return len(self.variables) + self.num_arrays

    def row_kinds(self) -> tuple[int, ...]:
        """Returns what each row of `nodes` is made as."""
        if self._row_kinds is None:
            self._row_kinds = tuple(_row_kind(row) for row in self.nodes)
        return self._row_kinds

    def with_roots(self, roots: tuple[Ref, ...]) -> GraphDef[Any]:
        """Returns the same tables seen from other roots."""
        return GraphDef(roots, self.nodes, self.variables, self.num_arrays)

    def same_tables(self, other: GraphDef[Any]) -> bool:
        """Whether both describe the same structure, whatever their roots."""
        return (
            self.num_arrays == other.num_arrays
            and self.variables == other.variables
            and self.nodes == other.nodes
        )

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, GraphDef) and self.roots == other.roots and self.same_tables(other)

    def __hash__(self) -> int:
        if self._hash is None:
            try:
                self._hash = hash((self.roots, self.nodes, self.variables, self.num_arrays))
            except TypeError:  # a configuration that can be compared but not hashed, such as most dataclasses
                self._hash = self._hash_without_values()
        return self._hash

    def __repr__(self) -> str:
        from easyflax.nnx.core.display import format_graphdef

        return format_graphdef(self)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.roots, self.nodes, self.variables, self.num_arrays

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)

    def paths(self) -> LeafPaths:
        """Returns the paths of the leaves, from the root (from the position of the root, where there are
        several)."""
        if self._paths is None:
            variables: list[Path] = [()] * len(self.variables)
            arrays: list[Path] = [()] * self.num_arrays
            for path, tag, payload in self.iter_refs():
                if tag == VARIABLE:
                    variables[payload] = path
                elif tag == ARRAY:
                    arrays[payload] = path
            self._paths = LeafPaths(variables, arrays)
        return self._paths

    def iter_refs(self) -> Iterator[tuple[Path, int, Any]]:
        """Iterates over `(path, tag, payload)` of all references in depth-first order, each node and
        variable once."""
        seen: set[tuple[int, int]] = set()
        single = len(self.roots) == 1
        stack: list[tuple[Path, int, Any]] = [
            (() if single else (position,), *ref) for position, ref in enumerate(self.roots)
        ][::-1]
        while stack:
            path, tag, payload = stack.pop()
            if tag in (NODE, VARIABLE):
                if (tag, payload) in seen:
                    continue
                seen.add((tag, payload))
            yield path, tag, payload
            if tag == NODE:
                children = self.nodes[payload].children
                stack.extend(((*path, key), tag, payload) for key, tag, payload in reversed(children))

    def apply(self, state: Any, *states: Any) -> Callable[..., tuple[Any, tuple[GraphDef[A], State]]]:
        """Returns a function that merges, calls the module, and splits again: `out, (graphdef, state) =
        graphdef.apply(state)(x)`.

        Methods can be called as well: `graphdef.apply(state).method(x)`.
        """
        from easyflax.nnx.core.graph_calls import apply_graphdef

        return apply_graphdef(self, state, *states)

    def _hash_without_values(self) -> int:
        """A hash of the kinds and the places of everything, which equal structures have in common."""
        rows = tuple(
            (
                row.type,
                *((key, tag, payload[1] if tag == STATIC else payload) for key, tag, payload in row.children),
            )
            for row in self.nodes
        )
        return hash((rows, tuple(row.type for row in self.variables), self.num_arrays))


jax.tree_util.register_static(GraphDef)


def static_ref(value: Any) -> Ref:
    """Returns the reference for a static value."""
    return STATIC, (value, _kinds(value))


def _kinds(value: Any) -> Any:
    kind = type(value)
    if kind is tuple:
        return tuple(map(_kinds, value))
    return None if kind is FunctionType else kind  # pickle does not find the type of functions


def make_variables(graphdef: GraphDef[Any], values: Sequence[Any], start: int = 0) -> list[Variable[Any]]:
    """Returns new variables of the kinds that `graphdef` tells from row `start` on, with the given values."""
    trace = current_trace()
    return [
        row.type.from_metadata(value, row.metadata, trace)
        for row, value in zip(graphdef.variables[start:], values, strict=True)
    ]


def assemble(
    graphdef: GraphDef[Any],
    variables: Sequence[Variable[Any]],
    arrays: Sequence[Any],
    existing: Sequence[Any] | None = None,
    finished: Sequence[Any] = (),
) -> list[Any]:
    """Builds the nodes that `graphdef` describes, over the given variables and arrays.

    Args:
        existing: for each row of `graphdef.nodes` an object to bring into that state instead of making a new
            one, or None.
        finished: the objects of the first rows, which are in that state already.

    Returns:
        The object of each row.
    """
    start, trace, kinds = len(finished), current_trace(), graphdef.row_kinds()
    rows = list(zip(range(start, len(kinds)), graphdef.nodes[start:], kinds[start:], strict=True))
    objects: list[Any] = list(finished)
    for i, row, kind in rows:
        found = existing[i] if existing is not None else None
        objects.append(_shell(row, kind, trace) if found is None else found)
    tables = objects, variables, arrays
    for i, row, kind in rows:  # values refer to values in earlier rows only
        if kind == _VALUE:
            parts = [
                payload[0] if tag == STATIC else tables[tag][payload] for _, tag, payload in row.children
            ]
            objects[i] = tuple(parts) if row.type is tuple else row.aux.unflatten(parts)
    for i, row, kind in rows:
        if kind != _VALUE:
            items = {
                k: payload[0] if tag == STATIC else tables[tag][payload] for k, tag, payload in row.children
            }
            if existing is None or existing[i] is None:
                _fill_new(objects[i], row, kind, items)
            else:
                _fill(objects[i], row, items)
    return objects


def leaves_if_unchanged(
    graphdef: GraphDef[Any], nodes: Sequence[Any], variables: Sequence[Variable[Any]]
) -> list[Any] | None:
    """Returns the values of the variables and the arrays, or None if the structure may be another than that
    from which `assemble` built `nodes`.

    Telling that nothing changed is several times quicker than walking the objects anew.
    """
    for row, variable in zip(graphdef.variables, variables, strict=True):
        metadata = variable._metadata
        if (metadata or row.metadata) and tuple(sorted(metadata.items())) != row.metadata:
            return None
    arrays: list[Any] = [None] * graphdef.num_arrays
    for row, node in zip(graphdef.nodes, nodes, strict=True):
        if row.is_reference:
            content = _content(node)
            if len(content) != len(row.children) or (isinstance(node, Pytree) and not _has_marks(node, row)):
                return None
        elif row.type is tuple:
            content = node
        else:
            return None
        for key, tag, payload in row.children:
            try:
                value = content[key]
            except LookupError:
                return None
            if tag == ARRAY:
                if not isinstance(value, (jax.Array, np.ndarray)):
                    return None
                arrays[payload] = value
            elif value is not (
                payload[0] if tag == STATIC else nodes[payload] if tag == NODE else variables[payload]
            ):
                return None
    return [*(variable._raw_value for variable in variables), *arrays]


def _has_marks(node: Pytree, row: NodeDef) -> bool:
    return (tuple(sorted(node._marks.items())) if node._marks else None) == row.aux


def collect_nodes(graphdef: GraphDef[Any], roots: Sequence[Any]) -> list[Any]:
    """Returns the object of each row of `graphdef.nodes`, by following the references from the roots."""
    objects: list[Any] = [None] * len(graphdef.nodes)
    stack = list(zip(graphdef.roots, roots, strict=True))
    while stack:
        (tag, payload), owner = stack.pop()
        if tag != NODE or objects[payload] is not None:
            continue
        objects[payload] = owner
        row = graphdef.nodes[payload]
        items = _content(owner) if row.is_reference else _parts(owner)
        for i, (key, child_tag, child) in enumerate(row.children):
            if child_tag == NODE:
                stack.append(((child_tag, child), items[key if row.is_reference else i]))
    return objects


def _content(owner: Any) -> Any:
    if isinstance(owner, Pytree):
        return vars(owner)
    return owner if isinstance(owner, (list, dict)) else owner._mapping


def _parts(value: Any) -> list[Any]:
    return jax.tree.leaves(value, is_leaf=lambda part: part is not value)


def resolve_root(
    ref: Ref, nodes: Sequence[Any], variables: Sequence[Variable[Any]], arrays: Sequence[Any] = ()
) -> Any:
    """Returns the object that a root refers to."""
    tag, payload = ref
    if tag == STATIC:
        return payload[0]
    return (nodes, variables, arrays)[tag][payload]


def _shell(row: NodeDef, kind: int, trace: Any) -> Any:
    if kind == _MODULE:
        return new_object(row.type, trace)
    if kind == _STATE:
        return empty_state({}, trace)
    return row.type() if kind == _CONTAINER else None


def _fill_new(owner: Any, row: NodeDef, kind: int, items: dict[Any, Any]) -> None:
    if row.type is list:
        owner[:] = items.values()
        return
    (vars(owner) if kind == _MODULE else owner._mapping if kind == _STATE else owner).update(items)
    if kind == _MODULE and row.aux is not None:
        set_marks(owner, dict(row.aux))


def _fill(owner: Any, row: NodeDef, items: dict[Any, Any]) -> None:
    """Makes `items` the content of a mutable node, leaving it alone where it is so already."""
    if isinstance(owner, list):
        if len(owner) != len(items) or any(owner[key] is not value for key, value in items.items()):
            owner[:] = items.values()
        return
    content = _content(owner)
    changed = {key: value for key, value in items.items() if key not in content or content[key] is not value}
    gone = [key for key in content if key not in items]
    if isinstance(owner, Pytree):
        if changed or gone:
            owner._check_can_update(next(iter([*changed, *gone])))
        set_marks(owner, None if row.aux is None else dict(row.aux))
    content.update(changed)
    for key in gone:
        del content[key]
    if (changed or gone) and isinstance(owner, (Pytree, State)):
        owner._structure_changed()
