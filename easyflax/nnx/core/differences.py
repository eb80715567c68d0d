"""In what two structures differ, in words: for errors and warnings about structures that should be equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.graphdef import ARRAY, NODE, STATIC, VARIABLE, GraphDef, NodeDef, Ref

_MISSING: Any = object()


def structure_differences(
    first: GraphDef[Any], second: GraphDef[Any], names: Sequence[str] | None = None
) -> list[str]:
    """Returns one line for each place where `second` differs from `first`; none if they are equal.

    Args:
        names: how to call the roots, by default nothing for one root and their positions for several.

    >>> from easyflax import nnx
    >>> model = nnx.Dropout(0.1)
    >>> before = nnx.graphdef(model)
    >>> model.rate = 0.2
    >>> structure_differences(before, nnx.graphdef(model))
    ["'rate': 0.1 became 0.2"]
    """
    return _Comparison(first, second).lines(names)


def differ_in_static_values_only(first: GraphDef[Any], second: GraphDef[Any]) -> bool:
    """Whether two structures have the same objects, attributes and sharing, row by row."""
    return (
        first.roots == second.roots
        and first.variables == second.variables
        and first.num_arrays == second.num_arrays
        and [_without_static_values(row) for row in first.nodes]
        == [_without_static_values(row) for row in second.nodes]
    )


def _without_static_values(row: NodeDef) -> Any:
    children = [(key, tag, None if tag == STATIC else payload) for key, tag, payload in row.children]
    return row.type, children, row.aux


class _Comparison:
    """Follows two structures side by side, each pair of nodes once."""

    def __init__(self, first: GraphDef[Any], second: GraphDef[Any]) -> None:
        self._first = first
        self._second = second
        self._lines: list[str] = []
        self._partner: dict[tuple[int, Any], tuple[Any, Path]] = {}  # of the first's rows, and where seen
        self._reverse: dict[tuple[int, Any], tuple[Any, Path]] = {}

    def lines(self, names: Sequence[str] | None) -> list[str]:
        roots = len(self._first.roots)
        if roots != len(self._second.roots):
            return [f"{roots} objects became {len(self._second.roots)}"]
        if names is None:
            names = [""] if roots == 1 else [str(i) for i in range(roots)]
        stack: list[tuple[Path, Any, Any]] = []
        for name, a, b in zip(names, self._first.roots, self._second.roots, strict=True):
            stack.append(((name,) if name else (), a, b))
        stack.reverse()
        while stack:
            path, a, b = stack.pop()
            stack += reversed(self._compare(path, a, b))
        return self._lines

    def _compare(self, path: Path, a: Ref, b: Ref) -> list[tuple[Path, Any, Any]]:
        """Notes how two references differ; returns the pairs of references below them."""
        if a[0] != b[0]:
            self._note(path, f"{self._described(self._first, a)} became {self._described(self._second, b)}")
            return []
        if a[0] in (NODE, VARIABLE) and not self._is_first_visit(path, a, b):
            return []
        if a[0] == NODE:
            return self._compare_nodes(path, a, b)
        if (a[0] == VARIABLE and self._first.variables[a[1]] != self._second.variables[b[1]]) or (
            a[0] == STATIC and a[1] != b[1]
        ):
            self._note(path, f"{self._described(self._first, a)} became {self._described(self._second, b)}")
        return []

    def _is_first_visit(self, path: Path, a: Ref, b: Ref) -> bool:
        """Whether neither was seen; if they were, but not with each other, they are shared differently."""
        known, back = self._partner.get(a), self._reverse.get(b)
        if known is None and back is None:
            self._partner[a], self._reverse[b] = (b, path), (a, path)
            return True
        if known is not None and known[0] != b:
            self._note(path, f"is no longer the same object as '{_shown(known[1])}'")
        if back is not None and back[0] != a:
            self._note(path, f"is now the same object as '{_shown(back[1])}'")
        return False

    def _compare_nodes(self, path: Path, a: Ref, b: Ref) -> list[tuple[Path, Any, Any]]:
        old, new = self._first.nodes[a[1]], self._second.nodes[b[1]]
        if old.type is not new.type:
            self._note(path, f"{old.type.__name__} became {new.type.__name__}")
            return []
        before = {key: (tag, payload) for key, tag, payload in old.children}
        after = {key: (tag, payload) for key, tag, payload in new.children}
        for key in (key for key in before if key not in after):
            self._note((*path, key), f"{self._described(self._first, before[key])} is gone")
        for key in (key for key in after if key not in before):
            self._note((*path, key), f"{self._described(self._second, after[key])} is new")
        if old.aux != new.aux:
            self._note(path, "other attributes are marked as data or static")
        return [((*path, key), before[key], after[key]) for key in before if key in after]

    def _note(self, path: Path, what: str) -> None:
        self._lines.append(f"'{_shown(path)}': {what}" if path else what)

    def _described(self, structure: GraphDef[Any], ref: Ref) -> str:
        tag, payload = ref
        if tag == NODE:
            return f"a {structure.nodes[payload].type.__name__}"
        if tag == VARIABLE:
            row = structure.variables[payload]
            metadata = ", ".join(f"{name}={value!r}" for name, value in row.metadata)
            return f"a {row.type.__name__}" + (f" with {metadata}" if metadata else "")
        return "an array" if tag == ARRAY else _short(payload[0])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown(path: Path) -> str:
    return "/".join(map(str, path))
