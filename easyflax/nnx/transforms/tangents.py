"""Gradients, tangents and cotangents of modules: from flat leaves to `State`s by path, and back.

A derivative of a module has one array for each of its leaves. jax sees flat lists of them; users see a
`State` with the paths of the module. `Part` goes both ways, for one argument or output: `states` builds what
the user gets, `read` takes apart what the user gives and checks it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.nnx.core.graphdef import GraphDef, Ref
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.state import State, from_flat_state, to_flat_state
from easyflax.nnx.core.tracking import Tracked
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import Walk
from easyflax.nnx.transforms.lift import Outcome
from easyflax.nnx.transforms.packing import Call, Slot, is_slot, leaves_below

Path = tuple[Any, ...]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    """Carries something hashable through jax; a pytree without leaves."""

    value: Any


class Part:
    """An argument or output in which objects stand as slots, and the leaves of these objects.

    Attributes:
        where: how messages name it.
        tree: its structure; a slot where an object is, and False for every other leaf.
        roots: the number of each object in it.
        leaves: for each object `[(path from it, number of the leaf)]`; what several objects share is listed
            for the first.
    """

    def __init__(
        self,
        where: str,
        tree: Any,
        graphdef: GraphDef[Any],
        refs: Sequence[Ref],
        taken: set[int],
        select: Callable[[int, Path, int], bool] | None = None,
    ) -> None:
        self.where = where
        self.tree = jax.tree.map(lambda leaf: leaf if is_slot(leaf) else False, tree, is_leaf=is_slot)
        slots = [leaf for leaf in jax.tree.leaves(self.tree, is_leaf=is_slot) if is_slot(leaf)]
        self.roots = [slot.index for slot in slots]
        self.leaves: list[list[tuple[Path, int]]] = []
        for root in self.roots:
            found = []
            for path, leaf in leaves_below(graphdef, refs[root]):
                if leaf not in taken and (select is None or select(root, path, leaf)):
                    taken.add(leaf)
                    found.append((path, leaf))
            self.leaves.append(found)

    @property
    def numbers(self) -> list[int]:
        """The numbers of all its leaves."""
        return [leaf for pairs in self.leaves for _, leaf in pairs]

    def states(self, leaf_of: Callable[[int], Any], rest: Any = None) -> Any:
        """Returns the tree with a state for each object, and the leaves of `rest` (or None) elsewhere."""
        states = iter([_state([(path, leaf_of(leaf)) for path, leaf in pairs]) for pairs in self.leaves])
        return jax.tree.map(
            lambda leaf: next(states) if is_slot(leaf) else None if rest is None else leaf,
            self.tree if rest is None else rest,
            is_leaf=is_slot,
        )

    def read(
        self, given: Any, like: Callable[[int], Any], rest_like: Any, name: str, *, partial: bool = False
    ) -> tuple[dict[int, Any], Any]:
        """Takes apart a tangent or cotangent that somebody made for this argument or output.

        What cannot be differentiated, such as an integer, may have anything or nothing as its derivative.

        Args:
            given: has a state, a module of the same structure or a plain dictionary in place of each object,
                and arrays elsewhere. None stands for zeros, in place of a whole subtree too.
            like: gives for each leaf an array of the shape and dtype of the primal.
            rest_like: the tree with such arrays in place of what is no object.
            name: how messages name it.
            partial: whether a state may leave leaves out, which are zero then; a module may not.

        Returns:
            tangents by the number of the leaf, and a tree of the others, with slots. Zeros are left out of
            the former and None in the latter.

        Raises:
            ValueError: another structure or shape.
            TypeError: another dtype.
        """
        expected, treedef = jax.tree.flatten(self.tree, is_leaf=is_slot)
        likes = treedef.flatten_up_to(rest_like)
        try:
            found = _leaves_of(given, self.tree)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{name} has the structure {jax.tree.structure(given)}, expected {treedef} with a state for "
                "each module (an nnx.State, or a module of the same structure).\nGive it the structure of "
                "what it belongs to."
            ) from error
        by_leaf: dict[int, Any] = {}
        rest, pairs = [], iter(self.leaves)
        for slot, value, other in zip(expected, found, likes, strict=True):
            if is_slot(slot):
                by_leaf.update(self._read_object(value, next(pairs), like, name, partial))
                rest.append(slot)
            else:
                value = value.get_raw_value() if isinstance(value, Variable) else value
                rest.append(checked(value, other, name))
        return by_leaf, treedef.unflatten(rest)

    def _read_object(
        self,
        given: Any,
        pairs: list[tuple[Path, int]],
        like: Callable[[int], Any],
        name: str,
        partial: bool,
    ) -> dict[int, Any]:
        if given is None:
            return {}
        is_array = [path for path, _ in pairs] == [()] and jax.tree_util.all_leaves([given])
        found = {(): given} if is_array else by_path(given, name)
        partial = partial and not isinstance(given, Pytree)
        result = {}
        for path, leaf in pairs:
            where = f"{name}, '{shown(path)}',"
            if path in found:
                value = checked(found.pop(path), like(leaf), where)
                if value is not None:
                    result[leaf] = value
            elif not partial and is_differentiable(like(leaf)):
                raise ValueError(
                    f"{where} is missing in the {type(given).__name__} that was given, expected "
                    f"{_described(like(leaf))}.\nGive each variable that is differentiated its derivative, "
                    "zeros where it has no influence."
                )
        if found:
            known = [shown(path) for path, _ in pairs]
            raise ValueError(
                f"{name} has something at {[shown(path) for path in found]}, expected only the variables "
                f"that are differentiated, each once: {known}.\nLeave out the others."
            )
        return result


def _leaves_of(given: Any, tree: Any) -> list[Any]:
    """Returns what `given` has in place of each leaf of the tree of a `Part`; None is None for all below."""
    if is_slot(tree) or tree is False:
        return [given]
    children, level = jax.tree.flatten(tree, is_leaf=lambda node: node is not tree)
    found = [None] * len(children) if given is None else level.flatten_up_to(given)
    return [leaf for one, child in zip(found, children, strict=True) for leaf in _leaves_of(one, child)]


def _state(pairs: list[tuple[Path, Any]]) -> Any:
    """A state; for a variable, a variable."""
    return pairs[0][1] if len(pairs) == 1 and pairs[0][0] == () else from_flat_state(pairs)


def by_path(given: Any, where: str) -> dict[Path, Any]:
    """Returns the values in a state, module or variable, by path.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(given, (State, dict)):
        flat = to_flat_state(given if isinstance(given, State) else State(given))
        return {path: leaf.get_raw_value() if isinstance(leaf, Variable) else leaf for path, leaf in flat}
    if isinstance(given, Tracked):
        found = Walk((given,))
        values = found.values()
        return {path: values[leaf] for path, leaf in leaves_below(found.graphdef, found.graphdef.roots[0])}
    raise TypeError(
        f"{where} is a {type(given).__name__}, expected an nnx.State, or a module of the same "
        "structure.\nBuild one from the state that was passed, or with nnx.state(module)."
    )


def tree_of(call: Call, place: int) -> Any:
    """Returns a positional argument of a call with slots in place of its objects."""
    for position, root in call.spec.places:
        if position == place:
            return Slot(root)
    return call.args[place]


def make_leaf(graphdef: GraphDef[Any], leaf: int, value: Any) -> Any:
    """Returns `value` as what leaf number `leaf` is: a variable of that kind, or the array itself."""
    if leaf >= len(graphdef.variables):
        return value
    row = graphdef.variables[leaf]
    return row.type.from_metadata(value, dict(row.metadata))


def origins_of(outcome: Outcome, before: GraphDef[Any]) -> Sequence[Any]:
    """Returns for each leaf after a call its number before, None for a new one."""
    return range(before.num_leaves) if outcome.after is None else outcome.leaf_origins


def is_differentiable(value: Any) -> bool:
    """Whether some of the arrays in a value are of real or complex numbers."""
    return any(jnp.issubdtype(_dtype(leaf), np.inexact) for leaf in jax.tree.leaves(value))


def shape_of(value: Any) -> Any:
    """Returns shapes and dtypes in place of the arrays of a value."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(_shape(leaf), _dtype(leaf)), value)


def zeros_for(value: Any) -> Any:
    """Returns the tangent zero of arrays, or shapes: of their own dtype, of float0 for integers and keys."""
    return jax.tree.map(
        lambda leaf: (
            np.zeros(_shape(leaf), jax.dtypes.float0)
            if not is_differentiable(leaf)
            else jnp.zeros_like(leaf)
            if isinstance(leaf, jax.Array)
            else jnp.zeros(_shape(leaf), _dtype(leaf))
        ),
        value,
    )


def with_zeros(rest: Any, like: Any) -> Any:
    """Returns a tree of tangents, as `Part.read` returns it, with zeros in place of None."""
    leaves, treedef = jax.tree.flatten(like)
    found = treedef.flatten_up_to(rest)
    return treedef.unflatten(
        [zeros_for(leaf) if value is None else value for value, leaf in zip(found, leaves, strict=True)]
    )


def _shape(value: Any) -> tuple[int, ...]:
    return value.shape if hasattr(value, "shape") else np.shape(value)


def _dtype(value: Any) -> Any:
    dtype = getattr(value, "dtype", None)
    if dtype is None or (isinstance(value, (np.ndarray, np.generic)) and dtype != jax.dtypes.float0):
        return jnp.result_type(value)  # the one that it has on the device
    return dtype


def checked(given: Any, primal: Any, where: str) -> Any:
    """Returns `given` if it is a tangent for `primal`, and None if `primal` has none; raises otherwise."""
    leaves, treedef = jax.tree.flatten(primal)
    if given is None or not is_differentiable(primal):
        return None
    if jax.tree.structure(given) != treedef:
        raise ValueError(
            f"{where} is a {type(given).__name__} with the structure {jax.tree.structure(given)}, expected "
            f"{_described(primal)}.\nGive it the structure of what it belongs to."
        )
    derivatives = jax.tree.leaves(given)
    for i, (one, like) in enumerate(zip(derivatives, leaves, strict=True)):
        if not is_differentiable(like):
            derivatives[i] = zeros_for(like)
            continue
        if _shape(one) != _shape(like):
            raise ValueError(
                f"{where} has shape {_shape(one)}, expected {_described(like)}.\nA derivative has the shape "
                "of what it belongs to."
            )
        if _dtype(one) != _dtype(like):
            raise TypeError(
                f"{where} has dtype {_dtype(one)}, expected {_described(like)}.\nConvert it with "
                f".astype({_dtype(like)})."
            )
    return treedef.unflatten(derivatives)


def _described(primal: Any) -> str:
    if not jax.tree_util.all_leaves([primal]):
        return f"the structure {jax.tree.structure(primal)}"
    return f"shape {_shape(primal)} and dtype {_dtype(primal)}"


def shown(path: Path) -> str:
    """Returns a path as messages show it."""
    return "/".join(map(str, path)) or "."


def check_shared(call: Call, parts: Iterable[Part], positions: Iterable[int]) -> None:
    """Raises a ValueError if what is differentiated in one argument is reached from one that is not."""
    graphdef = call.spec.graphdef
    differentiated = {
        leaf: (part.where, path) for part in parts for pairs in part.leaves for path, leaf in pairs
    }
    held = set(positions)
    others = [(place, root) for place, root in call.spec.places if place not in held]
    for place in call.spec.trees:
        if place not in held:
            tree = call.kwargs[place] if isinstance(place, str) else call.args[place]
            leaves = jax.tree.leaves(tree, is_leaf=is_slot)
            others += [(place, slot.index) for slot in leaves if isinstance(slot, Slot)]
    for place, root in others:
        for path, leaf in leaves_below(graphdef, graphdef.roots[root]):
            if leaf in differentiated:
                where, first_path = differentiated[leaf]
                kind = graphdef.variables[leaf].type.__name__ if leaf < len(graphdef.variables) else "array"
                raise ValueError(
                    f"Inconsistent aliasing: the same {kind} is reached from {where} at "
                    f"'{shown(first_path)}', where it is differentiated, and from argument {place} at "
                    f"'{shown(path)}', where it is not.\nPass the shared module once, or close over the "
                    "part that is not differentiated."
                )


def with_defaults(
    fun: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turns keyword arguments into positional ones and adds default values, as far as the signature allows.

    Returns:
        positional arguments, and the keyword-only ones that are left.
    """
    try:
        bound = inspect.signature(fun).bind(*args, **kwargs)
    except (TypeError, ValueError):  # no signature, or a call that fails: the function itself says how
        return args, dict(kwargs)
    bound.apply_defaults()
    return bound.args, bound.kwargs


def split_pair(result: Any, name: str, first: str, second: str) -> tuple[Any, Any]:
    """Returns the two parts of what a user's function returned.

    Raises:
        TypeError: it is no pair.
    """
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        got = f"a {type(result).__name__}"
        if isinstance(result, (tuple, list)):
            got += f" of length {len(result)}"
        raise TypeError(f"{name} returned {got}, expected a pair ({first}, {second}).\nReturn both.")
    return result[0], result[1]
