"""Contexts: splitting modules that share parts one by one, and updating objects after changes elsewhere.

Within one `split_context`, what was in an earlier `split` is not split again: the later structure refers to
it, and the later state lacks it. `merge_context` puts modules together that share the same parts.

    with nnx.split_context() as ctx:
        graphdef1, state1 = ctx.split(model)
        graphdef2, state2 = ctx.split(model.encoder)      # nothing new: state2 is empty
    with nnx.merge_context() as ctx:
        model = ctx.merge(graphdef1, state1)
        encoder = ctx.merge(graphdef2, state2)            # encoder is model.encoder

`update_context` ties four of them together, around and inside of a transform: see there.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Hashable, Iterator
from contextvars import ContextVar
from typing import Any

import jax

from easyflax.nnx.core.filters import Filter
from easyflax.nnx.core.graph import given_leaves, states_by_filter
from easyflax.nnx.core.graphdef import (
    ARRAY,
    NODE,
    STATIC,
    VARIABLE,
    GraphDef,
    Ref,
    assemble,
    collect_nodes,
    make_variables,
    resolve_root,
    static_ref,
)
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import walk

__all__ = [
    "MergeContext",
    "SplitContext",
    "UpdateContext",
    "current_update_context",
    "merge_context",
    "split_context",
    "update_context",
]


@dataclasses.dataclass(frozen=True)
class Known:
    """Stands in a structure for an object of an earlier split in the same context, by its number there."""

    index: int


@jax.tree_util.register_static
class LinkedGraphDef(GraphDef[Any]):
    """A structure whose new objects (modules and containers, then variables) have numbers in a context.

    Attributes:
        indices: the number of each.
        origins: the number that each had in the outer split of an `update_context`; None for new ones.
    """

    __slots__ = ("indices", "origins")

    def __init__(
        self, plain: GraphDef[Any], indices: tuple[int, ...], origins: tuple[int | None, ...]
    ) -> None:
        super().__init__(plain.roots, plain.nodes, plain.variables, plain.num_arrays)
        self.indices = indices
        self.origins = origins

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, LinkedGraphDef)
            and (self.indices, self.origins) == (other.indices, other.origins)
            and super().__eq__(other)
        )

    def __hash__(self) -> int:
        return super().__hash__()

    def __reduce__(self) -> Any:
        plain = GraphDef(self.roots, self.nodes, self.variables, self.num_arrays)
        return LinkedGraphDef, (plain, self.indices, self.origins)


class SplitContext:
    """Splits modules one after another; see `split_context`."""

    def __init__(self, update: UpdateContext | None = None) -> None:
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._update = update

    def split(self, node: Any, *filters: Filter) -> Any:
        """Does what `nnx.split` does, for what no earlier call has split.

        Returns:
            `(graphdef, state, ...)`, for the `merge` of a `merge_context`.

        Raises:
            ValueError: a leaf matches no filter.
        """
        found = walk(node)
        nodes, arrays = collect_nodes(found.graphdef, (node,)), found.arrays()
        part = _Part(
            found.graphdef,
            {i: self._numbers[id(value)] for i, value in enumerate(nodes) if id(value) in self._numbers},
            {i: self._numbers[id(v)] for i, v in enumerate(found.variables) if id(v) in self._numbers},
        )
        plain = part.graphdef()
        paths = plain.paths()
        leaves = [*zip(paths.variables, (found.variables[row] for row in part.variables), strict=True)]
        leaves += zip(paths.arrays, (arrays[slot] for slot in part.arrays), strict=True)
        new = [nodes[row] for row in part.references()] + [found.variables[row] for row in part.variables]
        indices = tuple(map(self._add, new))
        origins = self._update._origins(new) if self._update else (None,) * len(new)
        return (LinkedGraphDef(plain, indices, origins), *states_by_filter(leaves, filters))

    def _add(self, value: Any) -> int:
        self._numbers[id(value)] = len(self._objects)
        self._objects.append(value)
        return len(self._objects) - 1


class _Part:
    """The part of a structure that is reached without passing through known objects.

    Attributes:
        nodes: the rows of `graphdef.nodes` in it, in order.
        variables: likewise.
        arrays: likewise, for the arrays without a variable.
    """

    def __init__(
        self, whole: GraphDef[Any], known_nodes: dict[int, int], known_variables: dict[int, int]
    ) -> None:
        self._whole = whole
        self._known = {NODE: known_nodes, VARIABLE: known_variables, ARRAY: {}}
        reached: dict[int, set[int]] = {NODE: set(), VARIABLE: set(), ARRAY: set()}
        stack = list(whole.roots)
        while stack:
            tag, payload = stack.pop()
            if tag == STATIC or payload in reached[tag] or payload in self._known[tag]:
                continue
            reached[tag].add(payload)
            if tag == NODE:
                stack += [(child_tag, child) for _, child_tag, child in whole.nodes[payload].children]
        self.nodes, self.variables, self.arrays = (sorted(reached[tag]) for tag in (NODE, VARIABLE, ARRAY))
        rows = {NODE: self.nodes, VARIABLE: self.variables, ARRAY: self.arrays}
        self._new = {tag: {old: new for new, old in enumerate(rows[tag])} for tag in rows}

    def references(self) -> list[int]:
        """Returns the rows of the nodes that are known by identity."""
        return [row for row in self.nodes if self._whole.nodes[row].is_reference]

    def graphdef(self) -> GraphDef[Any]:
        """Returns the structure of this part, with `Known` in place of known objects."""
        whole = self._whole
        nodes = [whole.nodes[row] for row in self.nodes]
        return GraphDef(
            tuple(map(self._ref, whole.roots)),
            tuple(
                row._replace(
                    children=tuple((key, *self._ref((tag, child))) for key, tag, child in row.children)
                )
                for row in nodes
            ),
            tuple(whole.variables[row] for row in self.variables),
            len(self.arrays),
        )

    def _ref(self, ref: Ref) -> Ref:
        tag, payload = ref
        if tag == STATIC:
            return ref
        if payload in self._known[tag]:
            return static_ref(Known(self._known[tag][payload]))
        return tag, self._new[tag][payload]


class MergeContext:
    """Merges modules one after another; see `merge_context`."""

    def __init__(self, update: UpdateContext | None = None, *, inner: bool = True) -> None:
        self._objects: dict[int, Any] = {}
        self._outer = update._outer if update is not None and not inner else None

    def merge(self, graphdef: GraphDef[Any], /, *states: Any) -> Any:
        """Puts a module together from what `SplitContext.split` returned.

        The variables are new ones. Outside of the transform of an `update_context`, objects that went in are
        brought into their new state instead, and returned.

        Raises:
            TypeError: the structure comes from elsewhere.
            ValueError: the states lack a leaf or have too many, or an object is referred to that was not
                merged in this context.
        """
        if not isinstance(graphdef, LinkedGraphDef):
            raise TypeError(
                f"merge got a {type(graphdef).__name__}, expected what the split of a split_context "
                "returned. Use nnx.merge for what nnx.split returned."
            )
        leaves, arrays = given_leaves(graphdef, states)
        count = len(graphdef.indices) - len(leaves)
        variables = self._variables(graphdef, leaves, graphdef.origins[count:])
        existing = iter([self._original(origin) for origin in graphdef.origins[:count]])
        rows = [next(existing) if row.is_reference else None for row in graphdef.nodes]
        plain, values = self._with_known(graphdef, arrays)
        nodes = assemble(plain, variables, values, rows)
        new = [value for value, row in zip(nodes, graphdef.nodes, strict=True) if row.is_reference]
        self._objects.update(zip(graphdef.indices, [*new, *variables], strict=True))
        return resolve_root(plain.roots[0], nodes, variables, values)

    def _original(self, origin: int | None) -> Any:
        return None if origin is None or self._outer is None else self._outer[origin]

    def _variables(
        self, graphdef: GraphDef[Any], leaves: list[Any], origins: tuple[int | None, ...]
    ) -> list[Variable[Any]]:
        variables: list[Variable[Any]] = []
        for new, leaf, origin in zip(make_variables(graphdef, leaves), leaves, origins, strict=True):
            variable = leaf.copy() if isinstance(leaf, Variable) else new
            original = self._original(origin)
            if original is not None:
                original.update_from_state(variable)
                variable = original
            variables.append(variable)
        return variables

    def _with_known(self, graphdef: GraphDef[Any], arrays: list[Any]) -> tuple[GraphDef[Any], list[Any]]:
        """Returns the structure with known objects as further arrays, and all arrays: `assemble` puts them in
        as they are."""
        values = list(arrays)

        def ref(tag: int, payload: Any) -> Ref:
            if tag != STATIC or not isinstance(payload[0], Known):
                return tag, payload
            if payload[0].index not in self._objects:
                raise ValueError(
                    f"merge got a structure that refers to object {payload[0].index} of its context, which "
                    "was not merged yet. Merge all that was split, in the same order, in one merge_context."
                )
            values.append(self._objects[payload[0].index])
            return ARRAY, len(values) - 1

        roots = tuple(ref(*root) for root in graphdef.roots)
        nodes = tuple(
            row._replace(children=tuple((key, *ref(tag, child)) for key, tag, child in row.children))
            for row in graphdef.nodes
        )
        return GraphDef(roots, nodes, graphdef.variables, len(values)), values


class UpdateContext:
    """What ties the splits and merges around and inside of a transform together; see `update_context`.

    Attributes:
        tag: its name.
    """

    def __init__(self, tag: Hashable) -> None:
        self.tag = tag
        self._outer: list[Any] | None = None  # what the first split found, by number
        self._inner: dict[int, Any] | None = None  # what the merge inside made, by the same numbers

    def _origins(self, objects: list[Any]) -> tuple[int | None, ...]:
        numbers = {id(value): number for number, value in (self._inner or {}).items()}
        return tuple(numbers.get(id(value)) for value in objects)

    def _split_ended(self, context: SplitContext) -> None:
        if self._outer is None:
            self._outer = context._objects
        else:
            self._inner = None

    def _merge_ended(self, context: MergeContext, inner: bool) -> None:
        if inner:
            self._inner = context._objects


_contexts: ContextVar[tuple[UpdateContext, ...]] = ContextVar("update_contexts", default=())


@contextlib.contextmanager
def update_context(tag: Hashable) -> Iterator[UpdateContext]:
    """While entered, objects that are split, changed inside of a transform, and merged again are brought up
    to date, new attributes and changed structure included. Also a decorator.

    A transform of one's own takes four steps, the second and third inside of the transformed function:
    split what goes in, merge it, split what comes out, merge that.

    >>> import jax
    >>> from easyflax import nnx
    >>> @jax.jit
    ... def step(graphdef, state):
    ...     with nnx.merge_context("step", inner=True) as ctx:
    ...         model = ctx.merge(graphdef, state)
    ...     model.count += 1
    ...     model.itself = model
    ...     with nnx.split_context("step") as ctx:
    ...         return ctx.split(model)
    >>> model = nnx.Dict(count=nnx.Variable(jax.numpy.array(0)))
    >>> with nnx.update_context("step"):
    ...     with nnx.split_context("step") as ctx:
    ...         graphdef, state = ctx.split(model)
    ...     graphdef, state = step(graphdef, state)
    ...     with nnx.merge_context("step", inner=False) as ctx:
    ...         assert ctx.merge(graphdef, state) is model
    >>> int(model.count), model.itself is model
    (1, True)

    Args:
        tag: a name for it, by which `split_context` and `merge_context` refer to it.
    """
    context = UpdateContext(tag)
    token = _contexts.set((*_contexts.get(), context))
    try:
        yield context
    finally:
        _contexts.reset(token)
        context._outer = context._inner = None  # keeps no model alive


def current_update_context(tag: Hashable) -> UpdateContext:
    """Returns the innermost `update_context` with a name.

    Raises:
        ValueError: there is none.
    """
    for context in reversed(_contexts.get()):
        if context.tag == tag:
            return context
    raise ValueError(
        f"There is no update context {tag!r} here; there are {[context.tag for context in _contexts.get()]}. "
        f"Put the call into a block `with nnx.update_context({tag!r}):`."
    )


@contextlib.contextmanager
def split_context(ctxtag: Hashable | None = None) -> Iterator[SplitContext]:
    """A context in which several modules are split, each shared part once.

    Args:
        ctxtag: the `update_context` that it belongs to.
    """
    update = None if ctxtag is None else current_update_context(ctxtag)
    context = SplitContext(update)
    yield context
    if update is not None:
        update._split_ended(context)


@contextlib.contextmanager
def merge_context(ctxtag: Hashable | None = None, inner: bool | None = None) -> Iterator[MergeContext]:
    """A context in which several modules are merged that were split in one `split_context`.

    Args:
        ctxtag: the `update_context` that it belongs to.
        inner: with `ctxtag`, whether this is inside of the transform.

    Raises:
        ValueError: `ctxtag` without `inner`.
    """
    if ctxtag is not None and inner is None:
        raise ValueError(
            f"merge_context got ctxtag={ctxtag!r} without inner, expected True inside of the transform and "
            "False outside. Pass inner=..."
        )
    update = None if ctxtag is None else current_update_context(ctxtag)
    context = MergeContext(update, inner=inner is not False)
    yield context
    if update is not None:
        update._merge_ended(context, bool(inner))
