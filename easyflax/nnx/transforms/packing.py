"""Arguments without their modules: what a transform passes on to jax.

`pack` takes modules, variables and states out of the arguments of a call, wherever they are, and leaves
slots. What comes out is a walk over them, a static `Spec` that tells how to put them back, and arguments for
jax.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from easyflax.nnx.core.graphdef import (
    ARRAY,
    VARIABLE,
    GraphDef,
    Ref,
)
from easyflax.nnx.core.tracking import Tracked
from easyflax.nnx.core.walk import Walk, walk

_PLAIN, _OBJECT, _TREE = range(3)
_kinds: dict[type, int] = {type(None): _PLAIN, np.ndarray: _PLAIN, list: _TREE, dict: _TREE, tuple: _TREE}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Slot:
    """Stands in an argument or output for the object that was taken out; a pytree without leaves."""

    index: int


class Spec:
    """The static part of packed arguments.

    Attributes:
        graphdef: the structure of the objects, which are its roots.
        places: where each root that was an argument of its own is: `(position or keyword, index of the
            root)`.
        trees: positions and keywords of the arguments that hold objects deeper inside, as `Slot`s.
        marked: numbers of leaves that the transform treats apart (`nnx.jit`: those it donates).
    """

    __slots__ = ("_hash", "_rest", "graphdef", "marked", "places", "trees")

    def __init__(
        self,
        graphdef: GraphDef[Any],
        places: tuple[tuple[int | str, int], ...],
        trees: tuple[int | str, ...] = (),
        marked: tuple[int, ...] = (),
    ) -> None:
        self.graphdef = graphdef
        self.places = places
        self.trees = trees
        self.marked = marked
        self._rest = [i for i in range(graphdef.num_leaves) if i not in set(marked)] if marked else []
        self._hash = hash((graphdef, places, trees, marked))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Spec)
            and self.places == other.places
            and self.trees == other.trees
            and self.marked == other.marked
            and self.graphdef == other.graphdef
        )

    def divide(self, values: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Returns the marked values, and the others."""
        if not self.marked:
            return (), values
        if not self._rest:
            return values, ()
        return list(map(values.__getitem__, self.marked)), list(map(values.__getitem__, self._rest))

    def join(self, marked: Sequence[Any], rest: Sequence[Any]) -> list[Any]:
        """Returns all values in order; the reverse of `divide`."""
        if not self.marked:
            return list(rest)
        found = dict(zip((*self.marked, *self._rest), (*marked, *rest), strict=True))
        return [found[i] for i in range(len(found))]

    def fill(
        self, args: Sequence[Any], kwargs: dict[str, Any], roots: Sequence[Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Returns the arguments with the roots put back in."""
        args, kwargs = list(args), dict(kwargs)
        for place, index in self.places:
            if isinstance(place, str):
                kwargs[place] = roots[index]
            else:
                args[place] = roots[index]
        for place in self.trees:
            if isinstance(place, str):
                kwargs[place] = put_back(kwargs[place], roots)
            else:
                args[place] = put_back(args[place], roots)
        return args, kwargs


class Call(NamedTuple):
    """Packed arguments."""

    objects: list[Any]
    spec: Spec
    walk: Walk
    args: list[Any]
    kwargs: dict[str, Any]


def kind_of_argument(value: Any) -> int:
    """Whether `value` is plain to jax, an object with reference semantics, or a pytree that may hold some."""
    kind = type(value)
    found = _kinds.get(kind)
    if found is None:
        if isinstance(value, Tracked):
            found = _OBJECT
        else:
            found = _PLAIN if jax.tree_util.all_leaves([value]) else _TREE
        _kinds[kind] = found
    return found


def is_object(value: Any) -> bool:
    """Whether `value` is a module, variable or state."""
    return isinstance(value, Tracked)


def is_slot(value: Any) -> bool:
    """Whether `value` stands for an object that was taken out."""
    return isinstance(value, Slot)


def take_out(tree: Any, objects: list[Any]) -> Any:
    """Returns `tree` with the objects in it replaced by slots, and appends them to `objects` (each once)."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_object)
    if not any(map(is_object, leaves)):
        return tree
    return treedef.unflatten([Slot(_index_of(leaf, objects)) if is_object(leaf) else leaf for leaf in leaves])


def _index_of(value: Any, objects: list[Any]) -> int:
    for index, known in enumerate(objects):
        if known is value:
            return index
    objects.append(value)
    return len(objects) - 1


def put_back(tree: Any, objects: Sequence[Any]) -> Any:
    """Returns `tree` with slots replaced by the objects they stand for."""
    kind = type(tree)
    if kind is Slot:
        return objects[tree.index]
    if kind is tuple or kind is list:
        return kind([put_back(part, objects) for part in tree])
    if kind_of_argument(tree) == _PLAIN:
        return tree
    return jax.tree.map(
        lambda leaf: objects[leaf.index] if isinstance(leaf, Slot) else leaf,
        tree,
        is_leaf=is_slot,
    )


def pack(args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
    """Takes the objects out of the arguments of a call."""
    objects: list[Any] = []
    places: list[tuple[int | str, int]] = []
    trees: list[int | str] = []
    args, kwargs = list(args), dict(kwargs)
    for place, value in [*enumerate(args), *kwargs.items()]:
        kind = kind_of_argument(value)
        if kind == _PLAIN:
            continue
        container: Any = args if isinstance(place, int) else kwargs
        if kind == _OBJECT:
            places.append((place, _index_of(value, objects)))
            container[place] = None
        else:
            rest = take_out(value, objects)
            if rest is not value:
                container[place] = rest
                trees.append(place)
    found = walk(*objects)
    key = tuple(places), tuple(trees)
    spec = found.specs.get(key)
    if spec is None:
        spec = found.specs[key] = Spec(found.graphdef, *key)
    return Call(objects, spec, found, args, kwargs)


def slots_in(tree: Any) -> list[Slot]:
    """Returns the slots in `tree`, in order."""
    leaves = jax.tree.leaves(tree, is_leaf=is_slot)
    return [leaf for leaf in leaves if isinstance(leaf, Slot)]


def leaf_paths(graphdef: GraphDef[Any]) -> list[tuple[Any, ...]]:
    """Returns the path of each leaf, beginning with the number of the root that it is below."""
    paths = graphdef.paths()
    joined = [*paths.variables, *paths.arrays]
    return joined if len(graphdef.roots) > 1 else [(0, *path) for path in joined]


def leaf_places(spec: Spec) -> list[str]:
    """Returns for each leaf how to write where it is: `'l/kernel' of argument 0`."""
    owners = {root: f"argument {place}" for place, root in reversed(spec.places)}
    written = []
    for root, *path in leaf_paths(spec.graphdef):
        owner = owners.get(root, "an argument")
        written.append(f"'{'/'.join(map(str, path))}' of {owner}" if path else owner)
    return written


def leaf_value(call: Call, leaf: int) -> Any:
    """Returns the variable (or array) that is leaf number `leaf` of a call."""
    count = len(call.walk.variables)
    return call.walk.variables[leaf] if leaf < count else call.walk.arrays()[leaf - count]


def leaves_below(graphdef: GraphDef[Any], root: Ref) -> Iterable[tuple[tuple[Any, ...], int]]:
    """Iterates over `(path from the root, number of the leaf)` of the leaves that can be reached from one
    root."""
    count = len(graphdef.variables)
    for path, tag, payload in graphdef.with_roots((root,)).iter_refs():
        if tag == VARIABLE:
            yield path, payload
        elif tag == ARRAY:
            yield path, count + payload


def bound_object(f: Callable[..., Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns a function and its leading arguments: for a method bound to a module, or a module that is
    called itself, the plain function and the module."""
    if isinstance(f, Tracked):
        return type(f).__call__, (f,)  # type: ignore[operator]
    owner = getattr(f, "__self__", None)
    if isinstance(owner, Tracked) and hasattr(f, "__func__"):
        return f.__func__, (owner,)
    return f, ()


def positional_arguments(
    fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turns keyword arguments into positional ones, for which axes are given, as far as the signature allows.

    Returns:
        positional arguments, and the keyword-only ones that are left.
    """
    if not kwargs:
        return args, kwargs
    try:
        bound = inspect.signature(fun).bind(*args, **kwargs)
    except (TypeError, ValueError):  # no signature, or a call that fails: the function itself says how
        return args, kwargs
    return bound.args, bound.kwargs


def named_like(f: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `wrapper` with the name and documentation of `f`."""
    return functools.update_wrapper(wrapper, f)
