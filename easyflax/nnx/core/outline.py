"""What is shown of a module, variable or state, and where: a list of nodes that text and notebooks are
written from.

Everything comes once. Where an object comes up again, by sharing or in a cycle, a reference to the node at
which it comes first stands in its place, and what it holds is counted there only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax

from easyflax.nnx.core.containers import Dict, List
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.sizes import Size, counted_kind, has_shape, size_of
from easyflax.nnx.core.state import FlatState, State
from easyflax.nnx.core.tracking import Tracked
from easyflax.nnx.core.variables import Variable

T = TypeVar("T")

_SHOWN_SIBLINGS, _SHOWN_AT_ENDS = 40, 5


class Layout(NamedTuple):
    """How a value with parts is written: brackets, and `(key, prefix, part)` of what is between."""

    opening: str
    parts: list[tuple[Any, str, Any]]
    closing: str


@dataclasses.dataclass(slots=True)
class Node:
    """A value in the outline of what is shown; others are referred to by number.

    Without references between nodes there is no cycle that would keep arrays alive until the garbage
    collector runs.
    """

    value: Any
    parent: int | None = None
    key: Any = None
    prefix: str = ""
    layout: Layout | None = None
    children: list[int] = dataclasses.field(default_factory=list)
    same_as: int | None = None
    totals: dict[Any, Size] = dataclasses.field(default_factory=dict)


def outline(value: Any) -> list[Node]:
    """Visits everything below `value` in the order in which it is shown, each object once."""
    nodes = [Node(value)]
    first: dict[int, int] = {}
    stack = [0]
    while stack:
        number = stack.pop()
        node = nodes[number]
        if _is_shared_by_reference(node.value):
            known = first.setdefault(id(node.value), number)
            if known != number:
                node.same_as = known
                continue
        node.layout = layout_of(node.value)
        if isinstance(node.value, Variable):
            size, kind = size_of(node.value.get_raw_value()), counted_kind(node.value)
            for holder in _and_above(nodes, number):
                holder.totals[kind] = holder.totals.get(kind, Size()) + size
        if node.layout is not None:
            node.children = list(range(len(nodes), len(nodes) + len(node.layout.parts)))
            nodes += [Node(part, number, key, prefix) for key, prefix, part in node.layout.parts]
            stack += reversed(node.children)
    return nodes


def _and_above(nodes: list[Node], number: int | None) -> Iterator[Node]:
    """Iterates over a node and those it is in, up to the root."""
    while number is not None:
        yield nodes[number]
        number = nodes[number].parent


def path_of(nodes: list[Node], number: int) -> str:
    keys = [str(node.key) for node in _and_above(nodes, number) if node.parent is not None]
    return "/".join(reversed(keys)) or "the root"


def _is_shared_by_reference(value: Any) -> bool:
    return isinstance(value, Tracked) or (type(value) in (list, dict) and len(value) > 0)


def layout_of(value: Any) -> Layout | None:
    """Returns how a value with parts is written over several lines; None for what is written in one."""
    name = type(value).__name__
    if isinstance(value, Variable):
        parts = {"value": value.get_raw_value(), **value.get_metadata()}
        return Layout(f"{name}(", _named(parts.items()), ")")
    if isinstance(value, List):
        return Layout(f"{name}([", [(i, "", item) for i, item in enumerate(value)], "])")
    if isinstance(value, Dict):
        return Layout(f"{name}({{", _keyed(vars(value).items()), "})")
    if isinstance(value, Pytree):
        return Layout(f"{name}(", _named(_shown_attributes(value)), ")")
    if isinstance(value, State):
        return Layout(f"{name}({{", _keyed(value.items()), "})")
    if isinstance(value, FlatState):
        return Layout(f"{name}([", [(i, "", pair) for i, pair in enumerate(value)], "])")
    if _is_short(value):
        return None
    if type(value) in (list, dict) and all(map(_is_short, _items_of(value))):
        return None
    return _container_layout(value)


def _container_layout(value: Any) -> Layout:
    """Returns the layout of a plain container, or of another library's pytree (a state of optax, say)."""
    if type(value) is list:
        return Layout("[", [(i, "", item) for i, item in enumerate(value)], "]")
    if type(value) is dict:
        return Layout("{", _keyed(value.items()), "}")
    if type(value) is tuple:
        return Layout("(", [(i, "", item) for i, item in enumerate(value)], ")")
    entries = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda part: part is not value)[0]
    parts = [(*_key_and_prefix(path[0]), part) for path, part in entries]
    return Layout(f"{type(value).__name__}(", parts, ")")


def _key_and_prefix(entry: Any) -> tuple[Any, str]:
    if isinstance(entry, jax.tree_util.GetAttrKey):
        return entry.name, f"{entry.name}="
    if isinstance(entry, jax.tree_util.DictKey):
        return entry.key, f"{entry.key!r}: "
    return getattr(entry, "idx", getattr(entry, "key", None)), ""


def _named(items: Iterable[tuple[Any, Any]]) -> list[tuple[Any, str, Any]]:
    return [(name, f"{name}=", item) for name, item in items]


def _keyed(items: Iterable[tuple[Any, Any]]) -> list[tuple[Any, str, Any]]:
    return [(key, f"{key!r}: ", item) for key, item in items]


def _items_of(value: list[Any] | dict[Any, Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _shown_attributes(owner: Pytree) -> list[tuple[Any, Any]]:
    return [(name, item) for name, item in vars(owner).items() if _is_shown(owner, name, item)]


def _is_shown(owner: Pytree, name: Any, value: Any) -> bool:
    """Whether an attribute is: where it has data always, else unless it is private or its class hides it."""
    hides = getattr(type(owner), "_hides", None)
    is_hidden = str(name)[:1] == "_" or (hides is not None and hides(owner, name, value))
    return not is_hidden or _holds_data(value)


def _holds_data(value: Any) -> bool:
    leaves = jax.tree.leaves(value, is_leaf=lambda part: isinstance(part, Tracked))
    return any(isinstance(leaf, Tracked) or has_shape(leaf) for leaf in leaves)


def _is_short(value: Any) -> bool:
    """Whether a value is written in one line: an array, or what has no data in it."""
    if isinstance(value, Tracked) or type(value) in (list, dict):
        return type(value) in (list, dict) and not value
    if isinstance(value, tuple):
        return not any(map(has_shape, value)) and all(map(_is_short, value))
    return value is None or jax.tree_util.all_leaves([value]) or not jax.tree.leaves(value)


def comment_on(node: Node) -> str:
    if isinstance(node.value, Variable):
        parts = [str(size) for size in node.totals.values() if size]
    elif isinstance(node.value, Pytree):
        parts = [f"{kind.__name__}: {size}" for kind, size in node.totals.items() if size]
    else:
        parts = []
    return f" # {', '.join(parts)}" if parts else ""


def without_middle(siblings: list[T]) -> tuple[list[T], int, list[T]]:
    """Returns the first siblings, how many are left out after them, and the last; all where they are few."""
    if len(siblings) <= _SHOWN_SIBLINGS:
        return siblings, 0, []
    return siblings[:_SHOWN_AT_ENDS], len(siblings) - 2 * _SHOWN_AT_ENDS, siblings[-_SHOWN_AT_ENDS:]
