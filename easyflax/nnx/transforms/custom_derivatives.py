"""What `nnx.custom_vjp` and `nnx.custom_jvp` have in common: the arguments as operands of jax.

A function with a custom derivative is called with flat operands:

    leaves   what is differentiated in the modules
    trees    the arguments that are differentiated, with slots for modules
    held     arrays that are not: in modules, those that a `DiffState` leaves out, and in arguments of
             `nondiff_argnums`

and returns what `lift.run` returns: the output, the values that changed, and the outcome.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic

import jax
import numpy as np

from easyflax.nnx.core.differences import structure_differences
from easyflax.nnx.core.filters import Filter, to_predicate
from easyflax.nnx.core.graphdef import GraphDef, assemble, make_variables, resolve_root
from easyflax.nnx.core.signatures import P, R
from easyflax.nnx.transforms.autodiff import DiffState
from easyflax.nnx.transforms.lift import Outcome, also_return
from easyflax.nnx.transforms.packing import (
    Call,
    bound_object,
    is_object,
    is_slot,
    leaf_paths,
    leaf_value,
    pack,
)
from easyflax.nnx.transforms.tangents import (
    Part,
    Static,
    check_shared,
    is_differentiable,
    shown,
    tree_of,
    with_defaults,
)

Flat = tuple[list[Any], list[Any], list[Any]]


class CustomDerivative(Generic[P, R]):
    """A function of modules with a derivative of its own: base of what the two decorators return.

    Attributes:
        name: of the function, for messages.
    """

    def __init__(self, fun: Callable[P, R], nondiff_argnums: Any, transform: str) -> None:
        if not callable(fun):
            raise TypeError(
                f"nnx.{transform} got a {type(fun).__name__}, expected a function.\nPass the function to "
                f"differentiate; options by name, as in nnx.{transform}(nondiff_argnums=(0,))."
            )
        functools.update_wrapper(self, fun)  # type: ignore[arg-type]
        self.name: str = getattr(fun, "__name__", type(fun).__name__)
        self._transform = transform
        self._fun, self._bound = bound_object(fun)
        self._nondiff = _nondiff_filters(nondiff_argnums, len(self._bound), transform)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        method = object.__new__(type(self))
        vars(method).update(vars(self), _bound=(instance,))
        return method

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call((*self._bound, *args), kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the function with all of its arguments, the module that it is bound to included."""
        raise NotImplementedError

    def _pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, Operands]:
        args, rest = with_defaults(self._fun, args, kwargs)
        if rest:
            inspect.signature(self._fun).bind(*args, **rest)  # raises where the call itself is wrong
            raise TypeError(
                f"{self.name} got the keyword-only arguments {sorted(rest)}, expected arguments that have a "
                f"position: the rules of nnx.{self._transform} take them by position.\nMake them positional."
            )
        call = pack(args, {})
        return call, Operands(self.name, self._transform, call, self._nondiff)

    def _unbound(self, rule: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Returns a rule as a function; a method of the module that the function is bound to takes the module
        as its first argument, as the function does."""
        if not callable(rule):
            raise TypeError(
                f"{name} got a {type(rule).__name__} as a rule for {self.name}, expected a function.\nPass "
                "the rule itself."
            )
        plain, owner = bound_object(rule)
        return plain if owner and self._bound and owner[0] is self._bound[0] else rule


class Operands:
    """How the arguments of a call are operands; it holds no arrays or modules, since jax keeps rules.

    Attributes:
        name: of the function.
        spec: of the packed call.
        positions: of the arguments that are differentiated.
        parts: these arguments.
        leaves: numbers of the leaves that are differentiated.
        nondiff: positions of the arguments that are not differentiated at all.
    """

    def __init__(self, name: str, transform: str, call: Call, filters: dict[int, Filter]) -> None:
        self.name, self.spec, self._count = name, call.spec, len(call.args)
        for position in filters:
            if not 0 <= position < self._count:
                raise ValueError(
                    f"nondiff_argnums of nnx.{transform} names argument {position}, but {name} was called "
                    f"with {self._count} arguments.\nCount them from 0, default values included."
                )
        self.nondiff = [i for i in range(self._count) if filters.get(i, ...) is None]
        self.positions = [i for i in range(self._count) if i not in self.nondiff]
        taken: set[int] = set()
        self.parts = [_part(call, i, filters.get(i, ...), taken) for i in self.positions]
        check_shared(call, self.parts, self.positions)
        self.leaves = sorted(taken)
        self._held = [leaf for leaf in range(call.spec.graphdef.num_leaves) if leaf not in taken]
        self._constant = [
            ([None if _is_array(leaf) else leaf for leaf in leaves], treedef)
            for leaves, treedef in self._flat_constants(call)
        ]

    def _flat_constants(self, call: Call) -> list[tuple[list[Any], Any]]:
        return [jax.tree.flatten(tree_of(call, position), is_leaf=is_slot) for position in self.nondiff]

    def flatten(self, call: Call) -> Flat:
        """Returns the operands of a call."""
        values, paths = call.walk.values(), leaf_paths(self.spec.graphdef)
        held = [
            _hold(values[leaf], f"'{shown(paths[leaf][1:])}' of an argument of {self.name}")
            for leaf in self._held
        ]
        for position, (leaves, _) in zip(self.nondiff, self._flat_constants(call), strict=True):
            held += [_hold(leaf, f"argument {position} of {self.name}") for leaf in leaves if _is_array(leaf)]
        trees = [tree_of(call, position) for position in self.positions]
        return [values[leaf] for leaf in self.leaves], trees, held

    def join(
        self, leaves: Sequence[Any], trees: Sequence[Any], held: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Returns values and arguments for `run`."""
        rest = iter(held)
        values: list[Any] = [None] * self.spec.graphdef.num_leaves
        for leaf, value in zip(self.leaves, leaves, strict=True):
            values[leaf] = value
        for leaf in self._held:
            values[leaf] = next(rest)
        args: list[Any] = [None] * self._count
        for position, tree in zip(self.positions, trees, strict=True):
            args[position] = tree
        for position, tree in zip(self.nondiff, self.constants(rest), strict=True):
            args[position] = tree
        return values, args

    def constants(self, dynamic: Any, objects: bool = False) -> list[Any]:
        """Returns the arguments that are not differentiated.

        Args:
            dynamic: an iterator of the arrays in them, with `objects` of the objects too.
            objects: whether to put objects in place of slots.
        """
        result = []
        for leaves, treedef in self._constant:
            arrays = [
                next(dynamic) if leaf is None or (objects and is_slot(leaf)) else leaf for leaf in leaves
            ]
            result.append(treedef.unflatten(arrays))
        return result

    def dynamic(self, args: Sequence[Any]) -> list[Any]:
        """Returns arrays and objects in the arguments, of those given, that are not differentiated."""
        trees = [args[position] for position in self.nondiff]
        return [
            leaf for leaf in jax.tree.leaves(trees, is_leaf=is_object) if is_object(leaf) or _is_array(leaf)
        ]

    def chosen(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the arguments, of those given, that are differentiated."""
        return tuple(args[position] for position in self.positions)


def _part(call: Call, position: int, filter: Filter, taken: set[int]) -> Part:
    predicate, graphdef = to_predicate(filter), call.spec.graphdef
    return Part(
        f"argument {position}",
        tree_of(call, position),
        graphdef,
        graphdef.roots,
        taken,
        lambda _, path, leaf: predicate(path, leaf_value(call, leaf)),
    )


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray))


def _nondiff_filters(nondiff_argnums: Any, shift: int, transform: str) -> dict[int, Filter]:
    """Returns for each argument in `nondiff_argnums` the filter of what is differentiated in it: None for
    nothing."""
    several = nondiff_argnums if isinstance(nondiff_argnums, (list, tuple)) else (nondiff_argnums,)
    filters: dict[int, Filter] = {}
    for one in several:
        number = one.argnum if isinstance(one, DiffState) else one
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(
                f"nondiff_argnums of nnx.{transform} got a {type(one).__name__}, expected positions of "
                "arguments or nnx.DiffState(position, filter).\nPass for example nondiff_argnums=(0,)."
            )
        if number + shift in filters:
            raise ValueError(
                f"argnum {number} is repeated in nondiff_argnums, expected each argument once.\nSelect "
                "several kinds of variables with one nnx.DiffState and a list of filters."
            )
        filters[number + shift] = _some(one.filter) if isinstance(one, DiffState) else None
    return filters


def _some(filter: Filter) -> Filter:
    return False if filter is None else filter  # both match nothing; None means the whole argument here


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _held(value: Any, _where: str) -> Any:
    """Returns `value`, and raises where something differentiates with respect to it."""
    return value


@functools.partial(_held.defjvp, symbolic_zeros=True)
def _held_rule(where: str, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    if all(isinstance(leaf, jax.custom_derivatives.SymbolicZero) for leaf in jax.tree.leaves(tangents)):
        return primals[0], tangents[0]
    raise ValueError(
        f"The gradient with respect to {where} was asked for, but nondiff_argnums says that it is not "
        "differentiated.\nDifferentiate with respect to the rest (argnums=nnx.DiffState(position, filter)), "
        "or let the custom rule give its derivative."
    )


def _hold(value: Any, where: str) -> Any:
    return _held(value, where) if is_differentiable(value) else value


def freeze(tree: Any) -> Any:
    """Returns a tree with modules in it as a pytree of arrays; see `thaw`."""
    call = pack((tree,), {})
    return Static(call.spec), list(call.walk.values()), call.args[0]


def thaw(frozen: Any) -> Any:
    """Returns the tree that was frozen, with new modules."""
    static, values, rest = frozen
    graphdef = static.value.graphdef
    count = len(graphdef.variables)
    variables = make_variables(graphdef, values[:count])
    nodes = assemble(graphdef, variables, values[count:])
    roots = [resolve_root(ref, nodes, variables) for ref in graphdef.roots]
    return static.value.fill([rest], {}, roots)[0][0]


def aligned(
    operands: Operands,
    seen: Sequence[Outcome],
    values: Sequence[Any],
    changed: list[Any],
    outcome: Outcome,
) -> tuple[list[Any], Outcome]:
    """Makes a rule return the values that the function itself returned, where that was traced before.

    Raises:
        ValueError: the rule leaves the modules in another state than the function.
    """
    if not seen or seen[-1] == outcome:
        return changed, outcome
    expected, name = seen[-1], operands.name
    if expected.after == outcome.after and set(outcome.leaves) <= set(expected.leaves):
        missing = [leaf for leaf in expected.leaves if leaf not in outcome.leaves]
        if outcome.after is not None:
            missing = [outcome.leaf_origins[leaf] for leaf in missing]
        changed, outcome = also_return(
            [leaf for leaf in missing if leaf is not None], values, changed, outcome
        )
    if outcome != expected:
        raise ValueError(
            f"A rule of {name} changes its modules in another way than {name} itself does: "
            f"{_difference(expected, outcome, operands.spec.graphdef)}.\nMake the same changes in both, most "
            f"simply by calling {name} in the rule."
        )
    return changed, outcome


def _difference(expected: Outcome, outcome: Outcome, before: GraphDef[Any]) -> str:
    first, second = expected.after or before, outcome.after or before
    lines = structure_differences(first, second, [f"object {i}" for i in range(len(before.roots))])
    if lines:
        return "; ".join(lines)
    paths = leaf_paths(second)
    more = [shown(paths[leaf][1:]) for leaf in outcome.leaves if leaf not in expected.leaves]
    return f"the rule also changes {more}" if more else "they return different objects"
