"""How modules, variables and states are shown: `repr` for terminals, Treescope in notebooks where it is
installed."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from easyflax.nnx.core.graphdef import ARRAY, NODE, STATIC, VARIABLE, GraphDef
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.state import State
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import walk

_SHOWN_ITEMS = 8  # an array with more elements is shown as shape and dtype


def format_object(value: Any) -> str:
    """Returns the text of a module, variable or state, with arrays as shapes and a count of what each
    holds."""
    return "\n".join(_lines(value, set()))


def _lines(value: Any, seen: set[int]) -> list[str]:
    if not isinstance(value, (Pytree, Variable, State, list, dict)) or (
        isinstance(value, (list, dict)) and not value
    ):
        return _array_text(value).split("\n")
    if id(value) in seen:
        return [f"{type(value).__name__}(...)"]
    if isinstance(value, (Pytree, State, list, dict)):
        seen = seen | {id(value)}
    opening, closing = _brackets(value)
    comment = _comment(value)
    entries = [_entry(prefix, item, seen) for prefix, item in _items(value)]
    if not entries:
        return [f"{opening}{closing}{comment}"]
    lines = [opening + comment]
    for number, entry in enumerate(entries):
        indented = ["  " + line for line in entry]
        indented[-1] += "," if number < len(entries) - 1 else ""
        lines += indented
    return [*lines, closing]


def _entry(prefix: str, item: Any, seen: set[int]) -> list[str]:
    first, *rest = _lines(item, seen)
    return [prefix + first, *rest]


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, list):
        return "[", "]"
    if isinstance(value, dict):
        return "{", "}"
    return (
        (f"{type(value).__name__}({{", "})")
        if isinstance(value, State)
        else (f"{type(value).__name__}(", ")")
    )


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Variable):
        yield "value=", value._raw_value
        yield from ((f"{name}=", entry) for name, entry in value._metadata.items())
    elif isinstance(value, Pytree):
        yield from ((f"{name}=", item) for name, item in _shown_attributes(value))
    elif isinstance(value, list):
        yield from (("", item) for item in value)
    else:
        yield from ((f"{key!r}: ", item) for key, item in value.items())


def _shown_attributes(owner: Pytree) -> list[tuple[Any, Any]]:
    return [(name, item) for name, item in vars(owner).items() if str(name)[:1] != "_" or _holds_data(item)]


def _holds_data(value: Any) -> bool:
    return isinstance(value, (Pytree, Variable, State, jax.Array, np.ndarray))


def _array_text(value: Any) -> str:
    if isinstance(value, (jax.Array, np.ndarray)) and (
        math.prod(value.shape) > _SHOWN_ITEMS or _is_deleted(value)
    ):
        return f"Array(shape={value.shape}, dtype={value.dtype})"
    return repr(value)


def _is_deleted(value: Any) -> bool:
    try:
        return isinstance(value, jax.Array) and value.is_deleted()
    except jax.errors.ConcretizationTypeError:  # a tracer
        return False


def count(value: Any) -> tuple[int, int]:
    """Returns the number of elements and of bytes of the arrays in `value` (0 for what has no shape)."""
    leaves = [leaf for leaf in jax.tree.leaves(value) if hasattr(leaf, "shape") and hasattr(leaf, "dtype")]
    elements = [math.prod(leaf.shape) for leaf in leaves]
    return sum(elements), sum(
        n * getattr(leaf.dtype, "itemsize", 0) for n, leaf in zip(elements, leaves, strict=True)
    )


def _comment(value: Any) -> str:
    if isinstance(value, Variable):
        kinds = [("", value)]
    elif isinstance(value, Pytree):
        kinds = [(f"{type(variable).__name__}: ", variable) for variable in walk(value).variables]
    else:
        return ""
    totals: dict[str, list[int]] = {}
    for kind, variable in kinds:
        elements, size = count(variable._raw_value)
        total = totals.setdefault(kind, [0, 0])
        total[0] += elements
        total[1] += size
    parts = [f"{kind}{elements:,} ({_bytes(size)})" for kind, (elements, size) in totals.items() if elements]
    return f" # {', '.join(parts)}" if parts else ""


def _bytes(size: int) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size = size / 1000  # type: ignore[assignment]
    raise AssertionError


def format_graphdef(graphdef: GraphDef[Any]) -> str:
    """Returns the text of a structure: one line for each module and variable, with its path."""
    lines = [
        f"GraphDef({len(graphdef.nodes)} nodes, {len(graphdef.variables)} variables, {graphdef.num_arrays} "
        "arrays)"
    ]
    for path, tag, payload in graphdef.iter_refs():
        where = "/".join(map(str, path)) or "(root)"
        if tag == NODE:
            row = graphdef.nodes[payload]
            static = ", ".join(f"{key}={value[0]!r}" for key, t, value in row.children if t == STATIC)
            lines.append(f"  {where}: {row.type.__name__}({static})")
        elif tag == VARIABLE:
            lines.append(f"  {where}: {graphdef.variables[payload].type.__name__}")
        elif tag == ARRAY:
            lines.append(f"  {where}: array")
    return "\n".join(lines)


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


__all__ = ["count", "display", "format_graphdef", "format_object", "render_treescope"]
