"""What `nnx.cond`, `nnx.switch` and the loops have in common: names of arguments for messages, and comparing
types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.graphdef import GraphDef
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.transforms.lift import Outcome
from easyflax.nnx.transforms.packing import Slot, Spec, is_slot, leaf_paths


def plain(value: Any) -> Any:
    """Returns the value of a variable, and anything else as it is: what jax takes for a predicate, an index
    or a bound."""
    return value.get_value() if isinstance(value, Variable) else value


def number_of_owner(bound: tuple[Any, ...], owners: list[Any]) -> int | None:
    """Appends the object that a method is bound to, and returns its number among them; None for a
    function."""
    if not bound:
        return None
    owners.append(bound[0])
    return len(owners) - 1


def origin(outcome: Outcome, leaf: int) -> int | None:
    """Returns the number that a leaf of the structure after the call had before it; None for a new one."""
    return leaf if outcome.after is None else outcome.leaf_origins[leaf]


def argument(spec: Spec, args: Sequence[Any], position: int) -> Any:
    """Returns a packed argument, with slots for all objects in it."""
    places = dict(spec.places)
    return Slot(places[position]) if position in places else args[position]


def root_names(spec: Spec, args: Sequence[Any], positions: Sequence[str]) -> list[str]:
    """Returns for each root of packed arguments how to write where it is.

    Args:
        positions: how to write each argument.
    """
    names = [""] * len(spec.graphdef.roots)
    for position, name in enumerate(positions):
        tree = argument(spec, args, position)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_slot):
            if is_slot(leaf) and not names[leaf.index]:
                names[leaf.index] = name + jax.tree_util.keystr(path)
    return names


def shown(names: Sequence[str], path: Path) -> str:
    """Writes a path that begins with the number of a root."""
    return "/".join(str(part) for part in (names[path[0]], *path[1:]))


def leaf_names(structure: GraphDef[Any], names: Sequence[str]) -> list[str]:
    """Writes the paths of all leaves of a structure."""
    return [shown(names, path) for path in leaf_paths(structure)]


def output_names(tree: Any, name: str) -> list[tuple[str, Any]]:
    """Returns `(where, leaf)` for the leaves of an output, slots among them."""
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_slot)
    return [(name + jax.tree_util.keystr(path), leaf) for path, leaf in found]


def first_difference_of_trees(first: Any, second: Any, name: str) -> tuple[str, str, str] | None:
    """Returns `(where, first, second)` if two outputs differ in their containers or in where they have
    objects."""
    parts, kind = _parts(first)
    other_parts, other_kind = _parts(second)
    if kind != other_kind:
        return name, _described(first), _described(second)
    for (path, part), (_, other) in zip(parts, other_parts, strict=True):
        found = first_difference_of_trees(part, other, name + jax.tree_util.keystr(path))
        if found is not None:
            return found
    return None


def _parts(tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Returns the parts of a container, with their paths, and what kind of container it is."""
    if is_slot(tree):
        return [], (True, None)
    parts, kind = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda part: part is not tree)
    is_leaf = bool(parts) and parts[0][1] is tree
    return [] if is_leaf else parts, (False, kind)


def _described(tree: Any) -> str:
    if is_slot(tree):
        return "a module or variable"
    if tree is None:
        return "None"
    if jax.tree_util.all_leaves([tree]):
        return "an array"
    if isinstance(tree, dict):
        return f"a dict of {list(tree)}"
    return f"a {type(tree).__name__} of {len(_parts(tree)[0])}"


def first_difference_of_types(leaves: Iterable[tuple[str, Any, Any]]) -> tuple[str, str, str] | None:
    """Returns the first of `(where, first, second)` whose arrays differ in shape or dtype, with the types
    written out."""
    for where, first, second in leaves:
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=False):
            if shown_type(a) != shown_type(b):
                return where, shown_type(a), shown_type(b)
        if jax.tree.structure(first) != jax.tree.structure(second):
            return where, str(jax.tree.structure(first)), str(jax.tree.structure(second))
    return None


def shown_type(value: Any) -> str:
    """Writes dtype and shape."""
    kind = jax.eval_shape(lambda: value) if not hasattr(value, "dtype") else value
    return f"{kind.dtype}{list(kind.shape)}"


def shapes_of(pure: Callable[..., Any], *args: Any) -> Any:
    """Returns what `jax.eval_shape` does, or None where the function fails for a reason of its own."""
    try:
        return jax.eval_shape(pure, *args)
    except Exception:  # the caller is about to raise the first error again
        return None
