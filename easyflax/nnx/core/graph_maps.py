"""Functions over a graph that return a new one: `map` over its leaves, `recursive_map` over everything.

>>> import jax.numpy as jnp
>>> from easyflax import nnx
>>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
>>> nnx.map(lambda path, value: jnp.zeros_like(value), layer).kernel.value.sum().tolist()
0.0
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.graph import clone, merge, split
from easyflax.nnx.core.module import Pytree, sorted_items
from easyflax.nnx.core.state import State, map_state, type_aware
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import path_part

A = TypeVar("A")

__all__ = ["as_pure", "map", "pure", "recursive_map"]


def map(f: Callable[[Path, Any], Any], node: A, /, *, recreate_variables: bool = True) -> A:
    """Returns a new module whose variables (and arrays without one) are `f(path, variable)`.

    Args:
        f: returns a variable, or a value.
        node: a module, variable, or container of these; it stays as it is.
        recreate_variables: put a value that `f` returns into a new variable of the old one's kind and
            metadata; otherwise the value itself takes the variable's place.
    """
    graphdef, state = split(node)
    new = map_state(f, state) if isinstance(state, State) else f((), state)
    return merge(graphdef, new, recreate_variables=recreate_variables)


def recursive_map(f: Callable[[Path, Any], Any], node: Any, /) -> Any:
    """Returns a new graph with everything in it replaced by what `f(path, value)` returns for it, children
    before their parents.

    `f` gets copies of the modules, which share their variables with `node`; it may change such a copy and
    return it. What is in several places is replaced once, and is in the same places afterwards.

    >>> from easyflax import nnx
    >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Dropout(0.5))
    >>> no_dropout = lambda path, value: nnx.identity if isinstance(value, nnx.Dropout) else value
    >>> nnx.recursive_map(no_dropout, model).layers[1] is nnx.identity
    True

    Args:
        f: called once for each module, container, variable, array and static value.
        node: a module, or a container of modules; it stays as it is.

    Raises:
        ValueError: `f` replaces a module that refers to itself.
    """
    return _Replacing(f).replace(clone(node, variables=False), ())


class _Replacing:
    """Replaces values below a root, which belongs to it, from the leaves up."""

    def __init__(self, f: Callable[[Path, Any], Any]) -> None:
        self._f = f
        self._results: dict[int, Any] = {}
        self._running: dict[int, Path] = {}
        self._within: set[int] = set()  # met again while their own children were replaced
        self._keep_alive: list[Any] = []  # ids in `_results` must not be used again

    def replace(self, value: Any, path: Path) -> Any:
        """Returns what takes the place of `value`."""
        is_shared = isinstance(value, (Pytree, State, Variable, list, dict))
        if is_shared and id(value) in self._results:
            return self._results[id(value)]
        if id(value) in self._running and is_shared:
            self._within.add(id(value))
            return value
        self._running[id(value)] = path
        rebuilt = self._replace_children(value, path)
        new = self._f(path, rebuilt)
        del self._running[id(value)]
        if is_shared:
            self._keep_alive.append(value)
            self._results[id(value)] = new
            if id(value) in self._within and new is not value:
                raise ValueError(
                    f"recursive_map got a {type(new).__name__} in place of the {type(value).__name__} at "
                    f"'{'/'.join(str(part) for part in path)}', which refers to itself by way of its "
                    "children: they would still refer to the old one. Change that module and return it, or "
                    "replace what is outside of the cycle."
                )
        return new

    def _replace_children(self, value: Any, path: Path) -> Any:
        """Replaces the children in place; returns a new value where it cannot be changed."""
        if isinstance(value, (Variable, jax.Array)):
            return value
        if isinstance(value, (Pytree, State, list, dict)):
            for key, child in _items(value):
                new = self.replace(child, (*path, key))
                if new is not child:
                    _set(value, key, new)
            return value
        if jax.tree_util.all_leaves([value]):
            return value
        entries, treedef = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda node: node is not value)
        new_children = [self.replace(child, (*path, path_part(entry[0]))) for entry, child in entries]
        if all(new is child for new, (_, child) in zip(new_children, entries, strict=True)):
            return value
        return treedef.unflatten(new_children)


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Pytree):
        return sorted_items(value)
    if isinstance(value, list):
        return list(enumerate(value))
    return sorted(value.items(), key=lambda item: type_aware(item[0]))


def _set(owner: Any, key: Any, value: Any) -> None:
    if isinstance(owner, Pytree) and isinstance(key, str):
        setattr(owner, key, value)
    else:
        owner[key] = value  # type: ignore[index]  # a List has positions for names


def as_pure(tree: A) -> A:
    """Returns a pytree with every variable replaced by its value, as for saving it.

    >>> from easyflax import nnx
    >>> nnx.as_pure({"scale": nnx.Param(2.0)})
    {'scale': 2.0}
    """

    def value_of(leaf: Any) -> Any:
        return as_pure(leaf.get_raw_value()) if isinstance(leaf, Variable) else leaf

    return jax.tree.map(value_of, tree, is_leaf=lambda leaf: isinstance(leaf, Variable))


def pure(tree: A) -> A:
    """The older name of `as_pure`."""
    warnings.warn("nnx.pure has a new name: use nnx.as_pure.", DeprecationWarning, stacklevel=2)
    return as_pure(tree)
