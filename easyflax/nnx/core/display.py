"""How modules, variables and states are shown: `repr` for terminals, Treescope in notebooks where it is
installed.

Everything is shown once. Where an object comes up again, by sharing or in a cycle, its name stands with a
note of the path at which it was shown. Arrays of more than 8 elements are shown as shape and dtype; the first
and last of more than 40 siblings are shown, and at most 40 levels. A comment tells what a module holds, by
kind of variable, what was shown before left out.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from easyflax.nnx.core.containers import Dict, List
from easyflax.nnx.core.graphdef import ARRAY, NODE, STATIC, VARIABLE, GraphDef
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.sizes import Size, counted_kind, has_shape, size_of
from easyflax.nnx.core.state import State
from easyflax.nnx.core.tracking import Tracked
from easyflax.nnx.core.variables import Variable

_SHOWN_ELEMENTS = 8
_SHOWN_SIBLINGS, _SHOWN_AT_ENDS = 40, 5
_SHOWN_LEVELS = 40
_SHOWN_LINES = 200  # of a structure

_Line = tuple[str, str]  # the text, and a comment that a comma is put before


class _Layout(NamedTuple):
    """How a value with parts is written: brackets, and `(key, prefix, part)` of what is between."""

    opening: str
    parts: list[tuple[Any, str, Any]]
    closing: str


@dataclasses.dataclass(slots=True)
class _Node:
    """A value in the outline of what is shown; others are referred to by number.

    Without references between nodes there is no cycle that would keep arrays alive until the garbage
    collector runs.
    """

    value: Any
    parent: int | None = None
    key: Any = None
    prefix: str = ""
    layout: _Layout | None = None
    children: list[int] = dataclasses.field(default_factory=list)
    same_as: int | None = None
    totals: dict[Any, Size] = dataclasses.field(default_factory=dict)


def format_object(value: Any) -> str:
    """Returns the text of a module, variable or state."""
    return "\n".join(text + comment for text, comment in _lines(_outline(value), 0, 0))


# -- the outline: what is shown where, and what it holds


def _outline(value: Any) -> list[_Node]:
    """Visits everything below `value` in the order in which it is shown, each object once."""
    nodes = [_Node(value)]
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
        node.layout = _layout(node.value)
        if isinstance(node.value, Variable):
            size, kind = size_of(node.value.get_raw_value()), counted_kind(node.value)
            for holder in _and_above(nodes, number):
                holder.totals[kind] = holder.totals.get(kind, Size()) + size
        if node.layout is not None:
            node.children = list(range(len(nodes), len(nodes) + len(node.layout.parts)))
            nodes += [_Node(part, number, key, prefix) for key, prefix, part in node.layout.parts]
            stack += reversed(node.children)
    return nodes


def _and_above(nodes: list[_Node], number: int | None) -> Iterator[_Node]:
    """Iterates over a node and those it is in, up to the root."""
    while number is not None:
        yield nodes[number]
        number = nodes[number].parent


def _path(nodes: list[_Node], number: int) -> str:
    keys = [str(node.key) for node in _and_above(nodes, number) if node.parent is not None]
    return "/".join(reversed(keys)) or "the root"


def _is_shared_by_reference(value: Any) -> bool:
    return isinstance(value, Tracked) or (type(value) in (list, dict) and len(value) > 0)


def _layout(value: Any) -> _Layout | None:
    """Returns how a value with parts is written over several lines; None for what is written in one."""
    name = type(value).__name__
    if isinstance(value, Variable):
        parts = {"value": value.get_raw_value(), **value.get_metadata()}
        return _Layout(f"{name}(", _named(parts.items()), ")")
    if isinstance(value, List):
        return _Layout(f"{name}([", [(i, "", item) for i, item in enumerate(value)], "])")
    if isinstance(value, Dict):
        return _Layout(f"{name}({{", _keyed(vars(value).items()), "})")
    if isinstance(value, Pytree):
        return _Layout(f"{name}(", _named(_shown_attributes(value)), ")")
    if isinstance(value, State):
        return _Layout(f"{name}({{", _keyed(value.items()), "})")
    if _is_short(value):
        return None
    if type(value) in (list, dict) and all(map(_is_short, _items_of(value))):
        return None
    return _container_layout(value)


def _container_layout(value: Any) -> _Layout:
    """Returns the layout of a plain container, or of another library's pytree (a state of optax, say)."""
    if type(value) is list:
        return _Layout("[", [(i, "", item) for i, item in enumerate(value)], "]")
    if type(value) is dict:
        return _Layout("{", _keyed(value.items()), "}")
    if type(value) is tuple:
        return _Layout("(", [(i, "", item) for i, item in enumerate(value)], ")")
    entries = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda part: part is not value)[0]
    parts = [(*_key_and_prefix(path[0]), part) for path, part in entries]
    return _Layout(f"{type(value).__name__}(", parts, ")")


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
    return [(name, item) for name, item in vars(owner).items() if str(name)[:1] != "_" or _holds_data(item)]


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


# -- the text


def _lines(nodes: list[_Node], number: int, level: int) -> list[_Line]:
    node = nodes[number]
    if node.same_as is not None:
        return [(f"{type(node.value).__name__}(...)", f" # same as {_path(nodes, node.same_as)}")]
    if node.layout is None:
        return [(line, "") for line in format_leaf(node.value).split("\n")]
    opening, _, closing = node.layout
    comment = _comment(node)
    if not node.children:
        return [(opening + closing, comment)]
    if level == _SHOWN_LEVELS:
        return [(f"{opening}...{closing}", comment)]
    entries = _entries(nodes, node.children, level + 1)
    lines = [(opening + comment, "")]
    for position, entry in enumerate(entries):
        comma = "," if position < len(entries) - 1 else ""
        last, note = entry[-1]
        lines += [(f"  {text}", note) for text, note in entry[:-1]]
        lines.append((f"  {last}{comma}", note))
    return [*lines, (closing, "")]


def _entries(nodes: list[_Node], children: list[int], level: int) -> list[list[_Line]]:
    if len(children) <= _SHOWN_SIBLINGS:
        return [_entry(nodes, child, level) for child in children]
    first = [_entry(nodes, child, level) for child in children[:_SHOWN_AT_ENDS]]
    last = [_entry(nodes, child, level) for child in children[-_SHOWN_AT_ENDS:]]
    return [*first, [("...", f" # {len(children) - 2 * _SHOWN_AT_ENDS:,} more")], *last]


def _entry(nodes: list[_Node], child: int, level: int) -> list[_Line]:
    (first, comment), *rest = _lines(nodes, child, level)
    return [(nodes[child].prefix + first, comment), *rest]


def _comment(node: _Node) -> str:
    if isinstance(node.value, Variable):
        parts = [str(size) for size in node.totals.values() if size]
    elif isinstance(node.value, Pytree):
        parts = [f"{kind.__name__}: {size}" for kind, size in node.totals.items() if size]
    else:
        parts = []
    return f" # {', '.join(parts)}" if parts else ""


def format_leaf(value: Any) -> str:
    """Returns the text of a value without parts: arrays as their elements or as shape and dtype, classes and
    functions by their names."""
    if has_shape(value):
        return _array_text(value)
    if isinstance(value, type):
        return value.__name__
    if type(value) is list:
        return f"[{', '.join(map(format_leaf, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(format_leaf, value))}{',' if len(value) == 1 else ''})"
    if type(value) is dict:
        return "{" + ", ".join(f"{key!r}: {format_leaf(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        items = zip(value._fields, value, strict=True)  # type: ignore[attr-defined]
        return f"{type(value).__name__}({', '.join(f'{name}={format_leaf(item)}' for name, item in items)})"
    if callable(value) and isinstance(getattr(value, "__qualname__", None), str):
        return f"<function {value.__qualname__}>"
    return repr(value)


def _array_text(value: Any) -> str:
    if isinstance(value, Tracer):
        return f"Tracer(shape={value.shape}, dtype={value.dtype})"
    if isinstance(value, np.generic):
        return repr(value)
    name = {jax.ShapeDtypeStruct: "ShapeDtypeStruct", np.ndarray: "ndarray"}.get(type(value), "Array")
    spec = _partition_text(value)
    deleted = ", deleted" if isinstance(value, jax.Array) and value.is_deleted() else ""
    if name == "ShapeDtypeStruct" or spec or deleted or value.size > _SHOWN_ELEMENTS:
        return f"{name}(shape={value.shape}, dtype={value.dtype}{spec}{deleted})"
    return " ".join(repr(value).split())  # small, but the repr of a matrix or key has several lines


def _partition_text(value: Any) -> str:
    spec = getattr(getattr(value, "sharding", None), "spec", None)
    return f", sharding={spec}" if spec is not None and any(axis is not None for axis in spec) else ""


# -- structures


def format_graphdef(graphdef: GraphDef[Any]) -> str:
    """Returns the text of a structure: one line for each module, variable and array, with its path and what
    is static of it."""
    lines = [
        f"GraphDef({len(graphdef.nodes)} nodes, {len(graphdef.variables)} variables, {graphdef.num_arrays} "
        "arrays)",
        *_structure_lines(graphdef),
    ]
    if len(lines) > _SHOWN_LINES:
        half = _SHOWN_LINES // 2
        lines[half:-half] = [f"  ... {len(lines) - 2 * half:,} more"]
    return "\n".join(lines)


def _structure_lines(graphdef: GraphDef[Any]) -> Iterator[str]:
    first: dict[tuple[int, int], str] = {}
    for where, tag, payload in _all_references(graphdef):
        if tag == STATIC:
            continue
        known = first.setdefault((tag, payload), where)
        if known != where:
            yield f"  {where}: same as {known}"
        elif tag == NODE:
            row = graphdef.nodes[payload]
            static = ", ".join(
                f"{key}={format_leaf(value[0])}" for key, kind, value in row.children if kind == STATIC
            )
            yield f"  {where}: {row.type.__name__}({static})"
        elif tag == VARIABLE:
            row = graphdef.variables[payload]
            metadata = ", ".join(f"{name}={format_leaf(value)}" for name, value in row.metadata)
            yield f"  {where}: {row.type.__name__}" + (f"({metadata})" if metadata else "")
        elif tag == ARRAY:
            yield f"  {where}: array"


def _all_references(graphdef: GraphDef[Any]) -> Iterator[tuple[str, int, Any]]:
    """Iterates over `(path, tag, payload)` of the references, those to an object known already included."""
    seen: set[int] = set()
    roots = [("" if len(graphdef.roots) == 1 else str(i), *ref) for i, ref in enumerate(graphdef.roots)]
    stack = roots[::-1]
    while stack:
        where, tag, payload = stack.pop()
        yield where or "(root)", tag, payload
        if tag == NODE and payload not in seen:
            seen.add(payload)
            children = graphdef.nodes[payload].children
            stack.extend((f"{where}/{key}".lstrip("/"), *ref) for key, *ref in reversed(children))


# -- notebooks


def render_treescope(value: Any, path: str | None, subtree_renderer: Any) -> Any:
    """Renders a module, variable or state for Treescope."""
    import treescope

    if isinstance(value, Variable):
        attributes = {"value": value._raw_value, **value._metadata}
    elif isinstance(value, Pytree):
        attributes = {str(name): item for name, item in _shown_attributes(value)}
    else:
        attributes = {str(key): item for key, item in value.items()}
    return treescope.repr_lib.render_object_constructor(
        object_type=type(value),
        attributes=attributes,
        path=path,
        subtree_renderer=subtree_renderer,
        color=treescope.formatting_util.color_from_string(type(value).__qualname__),
    )


def display(*values: Any) -> None:
    """Shows values with Treescope in a notebook where it is installed, otherwise prints them.

    >>> from easyflax import nnx
    >>> nnx.display(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))  # doctest: +ELLIPSIS
    Linear( # Param: 9 (36 B)
    ...
    """
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and ipython.get_ipython() is not None
    treescope = _treescope() if in_notebook else None
    for value in values:
        if treescope is None:
            print(value)
        else:
            treescope.display(value, ignore_exceptions=True, autovisualize=True)


def _treescope() -> Any:
    try:
        import treescope
    except ImportError:
        return None
    return treescope


__all__ = ["display", "format_graphdef", "format_leaf", "format_object", "render_treescope"]
