"""Trees with modules in them as trees of states, for plain jax transforms, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jax

from easyflax.nnx.core.contexts import MergeContext, SplitContext, merge_context, split_context
from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.graph import leaves_with_paths
from easyflax.nnx.core.graphdef import GraphDef
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import path_part, walk
from easyflax.nnx.transforms.axes import FilterMap

__all__ = ["NodeStates", "from_tree", "to_tree"]

_MISSING: Any = object()


@dataclasses.dataclass(frozen=True)
class NodeStates:
    """Stands for a module in a tree: its structure and its states, or the axes of these; a pytree.

    Attributes:
        states: one for each filter that the module was split by.
        metadata: anything hashable.
    """

    _graphdef: GraphDef[Any] | None
    states: tuple[Any, ...]
    metadata: Any = None

    @property
    def graphdef(self) -> GraphDef[Any]:
        """The structure.

        Raises:
            ValueError: there is none; these are axes.
        """
        if self._graphdef is None:
            raise ValueError(
                "These NodeStates have no graphdef, since from_states or from_prefixes made them. Use those "
                "that to_tree returned."
            )
        return self._graphdef

    @property
    def state(self) -> Any:
        """The only state.

        Raises:
            ValueError: there are several.
        """
        if len(self.states) != 1:
            raise ValueError(
                f"These NodeStates have {len(self.states)} states, expected one. Use `states`, a tuple of "
                "all."
            )
        return self.states[0]

    def replace(self, **fields: Any) -> NodeStates:
        """Returns a copy with some fields replaced."""
        return dataclasses.replace(self, **fields)

    @classmethod
    def from_split(
        cls, graphdef: GraphDef[Any] | None, state: Any, /, *states: Any, metadata: Any = None
    ) -> NodeStates:
        """Returns those for what `split` returned."""
        return cls(graphdef, (state, *states), metadata)

    @classmethod
    def from_states(cls, state: Any, *states: Any) -> NodeStates:
        """Returns those with states only."""
        return cls(None, (state, *states))

    @classmethod
    def from_prefixes(cls, prefixes: Iterable[Any], /, *, metadata: Any = None) -> NodeStates:
        """Returns the axes for each state, as `jax.vmap` takes them in `in_axes`."""
        return cls(None, tuple(prefixes), metadata)


jax.tree_util.register_dataclass(NodeStates, data_fields=["_graphdef", "states"], meta_fields=["metadata"])

SplitFn = Callable[[SplitContext, Any, Any, Any], Any]
MergeFn = Callable[[MergeContext, Any, Any, Any], Any]


def _split(context: SplitContext, _path: Any, _prefix: Any, leaf: Any) -> Any:
    return NodeStates.from_split(*context.split(leaf))


def _merge(context: MergeContext, path: Any, _prefix: Any, leaf: Any) -> Any:
    if not isinstance(leaf, NodeStates):
        raise ValueError(
            f"from_tree found a {type(leaf).__name__} at {jax.tree_util.keystr(path)!r}, expected "
            "NodeStates. Pass what to_tree returned, or a merge_fn for such leaves."
        )
    return context.merge(leaf.graphdef, *leaf.states)


def _is_node(value: Any) -> bool:
    return isinstance(value, (Pytree, Variable))


def is_node_states(value: Any) -> bool:
    """Whether `value` stands for a module."""
    return isinstance(value, NodeStates)


def to_tree(
    tree: Any,
    /,
    *,
    prefix: Any = _MISSING,
    split_fn: SplitFn = _split,
    map_non_graph_nodes: bool = False,
    ctxtag: Hashable | None = None,
    check_aliasing: bool = True,
) -> Any:
    """Returns `tree` with `NodeStates` in place of modules and variables, each shared part once.

    >>> from easyflax import nnx
    >>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> pure = nnx.to_tree((layer, {"again": layer}))
    >>> len(pure[0].state), len(pure[1]["again"].state)
    (2, 0)
    >>> first, others = nnx.from_tree(pure)
    >>> others["again"] is first
    True

    Args:
        tree: a pytree with modules in it.
        prefix: a tree of anything (axes, say) with a value for each part of `tree`.
        split_fn: `split_fn(context, path, prefix, module)` returns what takes the module's place.
        map_non_graph_nodes: whether other leaves go through `split_fn` as well.
        ctxtag: the `nnx.update_context` that this belongs to.
        check_aliasing: whether what is shared must have the same prefix in all places.

    Raises:
        ValueError: a variable has different prefixes in two places.
    """
    entries, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_node)
    prefixes = _broadcast(prefix, tree, _is_node)
    if check_aliasing and prefix is not _MISSING and prefix is not None:
        _check_aliasing(entries, prefixes)
    with split_context(ctxtag) as context:
        new = [
            split_fn(context, path, given, leaf) if map_non_graph_nodes or _is_node(leaf) else leaf
            for (path, leaf), given in zip(entries, prefixes, strict=True)
        ]
    return treedef.unflatten(new)


def from_tree(
    tree: Any,
    /,
    *,
    prefix: Any = _MISSING,
    merge_fn: MergeFn = _merge,
    is_node_leaf: Callable[[Any], bool] = is_node_states,
    is_leaf: Callable[[Any], bool] = is_node_states,
    map_non_graph_nodes: bool = False,
    is_inner: bool | None = None,
    ctxtag: Hashable | None = None,
) -> Any:
    """Returns a tree with modules from what `to_tree` returned.

    Args:
        tree: a pytree with `NodeStates` in it.
        prefix: a tree of anything with a value for each part of `tree`.
        merge_fn: `merge_fn(context, path, prefix, leaf)` returns a module.
        is_node_leaf: which leaves stand for modules.
        is_leaf: which parts of `tree` are leaves.
        map_non_graph_nodes: whether other leaves go through `merge_fn` as well.
        is_inner: with `ctxtag`, whether this is inside of the transform.
        ctxtag: the `nnx.update_context` that this belongs to.
    """
    entries, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    prefixes = _broadcast(prefix, tree, is_leaf)
    with merge_context(ctxtag, is_inner) as context:
        new = [
            merge_fn(context, path, given, leaf) if map_non_graph_nodes or is_node_leaf(leaf) else leaf
            for (path, leaf), given in zip(entries, prefixes, strict=True)
        ]
    return treedef.unflatten(new)


def _broadcast(prefix: Any, tree: Any, is_leaf: Callable[[Any], bool]) -> list[Any]:
    """Returns what `prefix` has for each leaf of `tree`."""
    if prefix is _MISSING or prefix is None:
        return [prefix] * len(jax.tree.leaves(tree, is_leaf=is_leaf))
    found: list[Any] = []
    jax.tree.map(
        lambda value, part: found.extend([value] * len(jax.tree.leaves(part, is_leaf=is_leaf))),
        prefix,
        tree,
        is_leaf=lambda value: value is None or is_node_states(value) or _is_node(value),
    )
    return found


def _check_aliasing(entries: list[tuple[Any, Any]], prefixes: list[Any]) -> None:
    seen: dict[int, tuple[Path, Any]] = {}
    for (keys, node), prefix in zip(entries, prefixes, strict=True):
        if not _is_node(node):
            continue
        base = tuple(map(path_part, keys))
        for path, leaf in leaves_with_paths(walk(node)):
            own = prefix.map_prefix(path, leaf) if isinstance(prefix, FilterMap) else prefix
            where, other = seen.setdefault(id(leaf), ((*base, *path), own))
            if isinstance(leaf, Variable) and other != own:
                first, second = ("/".join(map(str, at)) for at in (where, (*base, *path)))
                raise ValueError(
                    f"Inconsistent aliasing detected: the same {type(leaf).__name__} has the prefix "
                    f"{other!r} at '{first}' and {own!r} at '{second}'. Give what is shared the same prefix "
                    "in all places."
                )
