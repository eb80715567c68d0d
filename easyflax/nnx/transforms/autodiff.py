"""`nnx.grad` and `nnx.value_and_grad`: gradients with respect to the variables of modules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from easyflax.nnx.core.filters import Everything, Filter, OfType, to_predicate
from easyflax.nnx.core.state import State, from_flat_state
from easyflax.nnx.core.variables import Param, Variable
from easyflax.nnx.transforms.lift import (
    Call,
    Slot,
    bound_object,
    is_slot,
    leaf_value,
    leaves_below,
    named_like,
    pack,
    positional_arguments,
    run,
    slots_in,
    unpack,
)

_MISSING: Any = object()


@dataclasses.dataclass(frozen=True)
class DiffState:
    """Differentiates an argument with respect to the variables that match `filter`.

    >>> from easyflax import nnx
    >>> bias_only = nnx.DiffState(0, nnx.PathContains("bias"))
    """

    argnum: int
    filter: Filter = Param


def grad(
    f: Any = _MISSING,
    *,
    argnums: int | DiffState | Sequence[int | DiffState] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    wrt: Filter = _MISSING,
) -> Any:
    """Returns a function that computes the gradient of `f`; see `value_and_grad`.

    >>> import jax.numpy as jnp
    >>> from easyflax import nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> grads = nnx.grad(lambda model, x: model(x).sum())(model, jnp.ones((4, 2)))
    >>> grads.bias.value.tolist()
    [4.0]
    """
    options = {
        "argnums": argnums,
        "has_aux": has_aux,
        "holomorphic": holomorphic,
        "allow_int": allow_int,
        "wrt": wrt,
    }
    if f is _MISSING:
        return lambda f: grad(f, **options)
    differentiated = value_and_grad(f, **options)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads = differentiated(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return named_like(f, gradient)


def value_and_grad(
    f: Any = _MISSING,
    *,
    argnums: int | DiffState | Sequence[int | DiffState] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    wrt: Filter = _MISSING,
) -> Any:
    """Returns a function that computes `f` and its gradient.

    Args:
        f: returns a scalar, or `(scalar, aux)` with `has_aux`. Changes that it makes to modules (running
            statistics, random streams) are kept.
        argnums: the arguments to differentiate; a `DiffState` says for a module with respect to which
            variables. Arguments may be modules, states, arrays, or containers of these.
        has_aux: `f` also returns something that is not differentiated.
        holomorphic: `f` is a holomorphic function of complex numbers.
        allow_int: allow integer inputs; their gradients have dtype float0.
        wrt: which variables, where `argnums` does not say: by default those of kind `nnx.Param` of modules,
            and all of states and variables.

    Returns:
        a function that returns `(value, gradient)`. The gradient of a module is a `State` of variables of the
        same kinds, by path; with several `argnums` the gradients are a tuple.

    Raises:
        ValueError: a variable is reached from a differentiated argument and, outside of what is
            differentiated there, from another argument.
    """
    options = {
        "argnums": argnums,
        "has_aux": has_aux,
        "holomorphic": holomorphic,
        "allow_int": allow_int,
        "wrt": wrt,
    }
    if f is _MISSING:
        return lambda f: value_and_grad(f, **options)
    fun, bound = bound_object(f)
    single = not isinstance(argnums, (list, tuple))
    requests = [_request(one, wrt) for one in (argnums if isinstance(argnums, (list, tuple)) else [argnums])]

    def differentiated(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = positional_arguments(fun, (*bound, *args), kwargs)
        call, args = pack(args, kwargs), args[len(bound) :]
        taken: set[int] = set()
        wanted = [
            _Wanted(call, request, _position(request.argnum, len(args)) + len(bound), taken)
            for request in requests
        ]
        _check_aliases(call, wanted)
        return _differentiate(fun, call, wanted, has_aux, holomorphic, allow_int, single)

    return named_like(f, differentiated)


class _Wanted:
    """One differentiated argument: which leaves it has, and how its gradient is put together.

    Attributes:
        position: of the argument.
        tree: the argument with slots for objects; None when it is an object itself.
        roots: the number of each object in the argument.
        leaves: for each of them `[(path from it, number of the leaf)]` of what is differentiated; a leaf that
            several objects share is differentiated in the first.
    """

    def __init__(self, call: Call, request: DiffState, position: int, taken: set[int]) -> None:
        self.position = position
        self.filter = request.filter
        places = dict(call.spec.places)
        self.tree = None if position in places else call.args[position]
        self.roots = [places[position]] if self.tree is None else [slot.index for slot in slots_in(self.tree)]
        self.leaves = [self._matching(call, root, taken) for root in self.roots]

    def _matching(self, call: Call, root: int, taken: set[int]) -> list[tuple[tuple[Any, ...], int]]:
        graphdef = call.spec.graphdef
        is_whole = isinstance(call.objects[root], (State, Variable))
        default = Everything() if is_whole else OfType(Param)
        predicate = default if self.filter is _MISSING else to_predicate(self.filter)
        found = []
        for path, leaf in leaves_below(graphdef, graphdef.roots[root]):
            if leaf not in taken and predicate(path, leaf_value(call, leaf)):
                taken.add(leaf)
                found.append((path, leaf))
        return found

    def gradient(self, call: Call, by_leaf: dict[int, Any], tree_gradient: Any) -> Any:
        """Returns the argument's gradient, from those of the leaves and of its own arrays."""
        states = [self._state(call, by_leaf, leaves) for leaves in self.leaves]
        if self.tree is None:
            return states[0]
        rest = iter(states)
        return jax.tree.map(
            lambda leaf: next(rest) if isinstance(leaf, Slot) else leaf, tree_gradient, is_leaf=is_slot
        )

    def _state(self, call: Call, by_leaf: dict[int, Any], leaves: list[tuple[tuple[Any, ...], int]]) -> Any:
        pairs = []
        for path, leaf in leaves:
            value = leaf_value(call, leaf)
            pairs.append((path, value.copy(by_leaf[leaf]) if isinstance(value, Variable) else by_leaf[leaf]))
        if len(pairs) == 1 and pairs[0][0] == ():  # the argument is a variable
            return pairs[0][1]
        return from_flat_state(pairs)


def _request(argnum: Any, wrt: Filter) -> DiffState:
    if isinstance(argnum, DiffState):
        return argnum
    if isinstance(argnum, int) and not isinstance(argnum, bool):
        return DiffState(argnum, wrt)
    raise TypeError(
        f"argnums got a {type(argnum).__name__}, expected the position of an argument or "
        "nnx.DiffState(position, filter). "
        "Pass for example argnums=0."
    )


def _position(argnum: int, count: int) -> int:
    if not -count <= argnum < count:
        raise TypeError(
            f"argnums names argument {argnum}, but the function was called with {count} positional "
            "arguments. Pass what is differentiated "
            "by position."
        )
    return argnum % count


def _differentiate(
    fun: Callable[..., Any],
    call: Call,
    wanted: list[_Wanted],
    has_aux: bool,
    holomorphic: bool,
    allow_int: bool,
    single: bool,
) -> Any:
    values = call.walk.values()
    leaves = sorted(leaf for one in wanted for pairs in one.leaves for _, leaf in pairs)
    trees = [one.tree for one in wanted]

    def pure(diff_values: list[Any], diff_trees: list[Any]) -> Any:
        inner = list(values)
        for leaf, value in zip(leaves, diff_values, strict=True):
            inner[leaf] = value
        args = list(call.args)
        for one, tree in zip(wanted, diff_trees, strict=True):
            if one.tree is not None:
                args[one.position] = tree
        out, changed, outcome = run(fun, call.spec, inner, args, call.kwargs)
        loss = out[0] if has_aux else out
        return (loss.get_value() if isinstance(loss, Variable) else loss), (out, changed, outcome)

    differentiated = jax.value_and_grad(
        pure, argnums=(0, 1), has_aux=True, holomorphic=holomorphic, allow_int=allow_int
    )
    (_, (out, changed, outcome)), (value_grads, tree_grads) = differentiated(
        [values[leaf] for leaf in leaves], trees
    )
    by_leaf = dict(zip(leaves, value_grads, strict=True))
    grads = tuple(one.gradient(call, by_leaf, tree) for one, tree in zip(wanted, tree_grads, strict=True))
    return unpack(call, out, changed, outcome), grads[0] if single else grads


def _check_aliases(call: Call, wanted: list[_Wanted]) -> None:
    """What is differentiated in one argument must not be reached from another one that is not."""
    graphdef = call.spec.graphdef
    differentiated = {
        leaf: (one.position, path) for one in wanted for pairs in one.leaves for path, leaf in pairs
    }
    positions = {one.position for one in wanted}
    held = [(place, root) for place, root in call.spec.places if place not in positions]
    for place in call.spec.trees:
        if place not in positions:
            tree = call.kwargs[place] if isinstance(place, str) else call.args[place]
            held += [(place, slot.index) for slot in slots_in(tree)]
    for place, root in held:
        for path, leaf in leaves_below(graphdef, graphdef.roots[root]):
            if leaf in differentiated:
                first, first_path = differentiated[leaf]
                raise ValueError(
                    f"The same {type(leaf_value(call, leaf)).__name__} is reached from argument {first} at "
                    f"'{_shown(first_path)}', where it is differentiated, and from argument {place} at "
                    f"'{_shown(path)}', "
                    "where it is not.\nPass the shared module once, or close over the part that is not "
                    "differentiated."
                )


def _shown(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path)) or "."
