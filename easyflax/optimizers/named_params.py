"""Names and paths of parameters, for what is decided by them: weight decay, the optimizer of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

import easyflax.nnx as nnx

__all__ = ["Row", "array_rows", "identity", "name_of", "unique_names"]


class Row(NamedTuple):
    """One array among the parameters."""

    name: str  # "kernel"
    path: str  # "layers/0/kernel"
    leaf: Any  # the array, or the variable that holds it
    array: Any


def array_rows(params: Any) -> list[Row]:
    """Returns a row for each array, in the order of the leaves.

    Args:
        params: a tree of arrays, or of variables.
    """
    rows = []
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_variable):
        parts = [str(_key(key)) for key in keys]
        named = {name: _metadata(leaf, name) for name in ("name", "path")}
        path = named["path"] or "/".join(parts)
        name = named["name"] or (parts[-1] if parts else "")
        rows.extend(Row(name, path, leaf, array) for array in jax.tree.leaves(leaf))
    return rows


def identity(leaf: Any) -> int:
    """Returns a number that tells variables apart, also where a copy stands for one."""
    return _metadata(leaf, "identity") or id(leaf)


def name_of(variable: Any) -> str:
    """Returns the path or the name of a variable, for messages."""
    return _metadata(variable, "path") or _metadata(variable, "name") or type(variable).__name__


def unique_names(names: Iterable[str]) -> list[str]:
    """Returns names that sort as they stand, and of which none is twice: "0000.kernel"."""
    return [f"{number:04}.{name}" for number, name in enumerate(names)]


def _metadata(leaf: Any, name: str) -> Any:
    return leaf.get_metadata(name, None) if _is_variable(leaf) else None


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _key(key: Any) -> Any:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return key
