"""Trees with variables as leaves: their arrays, their paths, and whether two of them fit together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.nnx.core import graph
from easyflax.nnx.core.filters import Filter, Path
from easyflax.nnx.core.state import State
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import path_part

__all__ = ["check_fits", "dotted", "is_variable", "leaves_with_paths", "selected", "to_arrays"]


def is_variable(value: Any) -> bool:
    """Says whether `value` is a variable, as `is_leaf` of `jax.tree` wants it."""
    return isinstance(value, Variable)


def to_arrays(tree: Any) -> Any:
    """Returns `tree` with the value as stored in place of each variable."""
    return jax.tree.map(lambda x: x.get_raw_value() if is_variable(x) else x, tree, is_leaf=is_variable)


def leaves_with_paths(tree: Any) -> list[tuple[Path, Any]]:
    """Returns the leaves of `tree`, variables whole, each with its path as filters see it."""
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_variable)
    return [(tuple(map(path_part, path)), leaf) for path, leaf in found]


def selected(tree: Any, only: Filter) -> Any:
    """Returns the state of what `only` selects in a module or a tree of variables.

    A tree of plain arrays has no kinds to select by, and is taken whole.
    """
    if any(is_variable(leaf) for leaf in jax.tree.leaves(tree, is_leaf=is_variable)):
        return graph.state(tree, only)
    return State(tree) if isinstance(tree, Mapping) and not isinstance(tree, State) else tree


def check_fits(what: str, got: Any, expected: Any, expectation: str) -> None:
    """Checks that two trees of arrays have the same paths and shapes.

    Args:
        what: begins the message: who got what.
        got: the tree that was given.
        expected: the tree that it must be like.
        expectation: ends the message on other paths: which ones are expected, and what to do.

    Raises:
        ValueError: a path is missing or is not expected, or a shape is another one.
    """
    given, wanted = dict(leaves_with_paths(got)), dict(leaves_with_paths(expected))
    missing, extra = _shown(wanted.keys() - given.keys()), _shown(given.keys() - wanted.keys())
    if missing or extra:
        parts = [f"without {missing}"] * bool(missing) + [f"with {extra} besides"] * bool(extra)
        raise ValueError(f"{what} {' and '.join(parts)}, expected exactly those that {expectation}")
    for path, leaf in wanted.items():
        if jnp.shape(given[path]) != jnp.shape(leaf):
            raise ValueError(
                f"{what} of shape {jnp.shape(given[path])} for '{dotted(path)}', expected {jnp.shape(leaf)}. "
                "Reduce or reshape it: its axes must be those of the variable."
            )


def dotted(path: Path) -> str:
    """Returns a path as messages show it: `encoder.layers.0.kernel`."""
    return ".".join(map(str, path))


def _shown(paths: Iterable[Path]) -> str:
    names = sorted(f"'{dotted(path)}'" for path in paths)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
