"""How modules, variables, states and structures are shown as text: `repr`.

Arrays of more than 8 elements are shown as shape and dtype. Of more than 40 siblings the first and last 5 are
shown, and at most 40 levels. A comment tells what a module holds, by kind of variable, without what was shown
before. An object that was shown before is only named, with the path at which it was (see `outline.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from easyflax.nnx.core.graphdef import ARRAY, NODE, STATIC, VARIABLE, GraphDef
from easyflax.nnx.core.outline import Node, comment_on, outline, path_of, without_middle
from easyflax.nnx.core.sizes import has_shape

_SHOWN_ELEMENTS = 8
_SHOWN_LEVELS = 40
_SHOWN_LINES = 200  # of a structure

_Line = tuple[str, str]  # the text, and a comment that a comma is put before


def format_object(value: Any) -> str:
    """Returns the text of a module, variable or state."""
    return "\n".join(text + comment for text, comment in _lines(outline(value), 0, 0))


def _lines(nodes: list[Node], number: int, level: int) -> list[_Line]:
    node = nodes[number]
    if node.same_as is not None:
        return [(f"{type(node.value).__name__}(...)", f" # same as {path_of(nodes, node.same_as)}")]
    if node.layout is None:
        return [(line, "") for line in format_leaf(node.value).split("\n")]
    opening, _, closing = node.layout
    comment = comment_on(node)
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


def _entries(nodes: list[Node], children: list[int], level: int) -> list[list[_Line]]:
    first, left_out, last = without_middle(children)
    middle = [[("...", f" # {left_out:,} more")]] if left_out else []
    return [
        *(_entry(nodes, child, level) for child in first),
        *middle,
        *(_entry(nodes, child, level) for child in last),
    ]


def _entry(nodes: list[Node], child: int, level: int) -> list[_Line]:
    (first, comment), *rest = _lines(nodes, child, level)
    return [(nodes[child].prefix + first, comment), *rest]


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
