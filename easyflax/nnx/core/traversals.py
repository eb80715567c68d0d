"""Nested mappings as flat ones, whose keys are paths, and back.

>>> from easyflax.nnx import traversals
>>> traversals.flatten_mapping({"a": 1, "b": {"c": 2}})
{('a',): 1, ('b', 'c'): 2}
>>> traversals.unflatten_mapping({"a": 1, "b/c": 2}, sep="/")
{'a': 1, 'b': {'c': 2}}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax

from easyflax.nnx.core.filters import Path

IsLeaf = Callable[[Path, Mapping[Any, Any]], bool]

__all__ = ["empty_node", "flatten_mapping", "flatten_to_sequence", "unflatten_mapping"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _EmptyNode:
    """Stands for an empty mapping; a pytree without leaves."""


empty_node = _EmptyNode()


def flatten_mapping(
    xs: Mapping[Any, Any],
    /,
    *,
    keep_empty_nodes: bool = False,
    is_leaf: IsLeaf | None = None,
    sep: str | None = None,
) -> dict[Any, Any]:
    """Returns the leaves of a nested mapping by path.

    Args:
        xs: mappings within mappings; anything else is a leaf.
        keep_empty_nodes: keep empty mappings below `xs`, as `empty_node`.
        is_leaf: which mappings are leaves, by path and value.
        sep: join the parts of a path, which must be strings, to one key; without it keys are tuples.

    Raises:
        TypeError: `xs` is no mapping.
    """
    _check_mapping("flatten_mapping", xs)
    pairs = _iter(xs, (), is_leaf, keep_empty_nodes)
    return {path if sep is None else sep.join(path): value for path, value in pairs}


def flatten_to_sequence(xs: Mapping[Any, Any], /, *, is_leaf: IsLeaf | None = None) -> list[tuple[Path, Any]]:
    """Returns the leaves of a nested mapping as a list of `(path, leaf)`; see `flatten_mapping`.

    >>> flatten_to_sequence({"a": 1, "b": {"c": 2}})
    [(('a',), 1), (('b', 'c'), 2)]

    Raises:
        TypeError: `xs` is no mapping.
    """
    _check_mapping("flatten_to_sequence", xs)
    return list(_iter(xs, (), is_leaf, False))


def unflatten_mapping(
    xs: Mapping[Any, Any] | Iterable[tuple[Any, Any]], /, *, sep: str | None = None
) -> dict[Any, Any]:
    """Returns nested dictionaries with the given leaves by path; the reverse of `flatten_mapping`.

    Args:
        xs: a mapping from paths to leaves, or pairs of these.
        sep: what separates the parts of a path, where paths are strings.

    Raises:
        TypeError: `xs` is neither a mapping nor pairs.
    """
    if not isinstance(xs, Iterable):
        raise TypeError(
            f"unflatten_mapping got a {type(xs).__name__}, expected a mapping from paths to values, or pairs "
            "of them. Pass what flatten_mapping or flatten_to_sequence returned."
        )
    result: dict[Any, Any] = {}
    for key, value in xs.items() if isinstance(xs, Mapping) else xs:
        path: Any = key if sep is None else key.split(sep)  # type: ignore[attr-defined]
        level = result
        for part in path[:-1]:
            level = level.setdefault(part, {})
        level[path[-1]] = {} if value is empty_node else value
    return result


def _iter(value: Any, path: Path, is_leaf: IsLeaf | None, keep_empty: bool) -> Iterator[tuple[Path, Any]]:
    if not isinstance(value, Mapping) or (is_leaf is not None and is_leaf(path, value)):
        yield path, value
    elif keep_empty and path and not value:
        yield path, empty_node
    else:
        for key, child in value.items():
            yield from _iter(child, (*path, key), is_leaf, keep_empty)


def _check_mapping(name: str, xs: Any) -> None:
    if not isinstance(xs, Mapping):
        raise TypeError(
            f"{name} got a {type(xs).__name__}, expected a mapping. Pass a dict or an nnx.State, such as "
            "nnx.state(model)."
        )
