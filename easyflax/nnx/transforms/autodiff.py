"""`nnx.grad` and `nnx.value_and_grad`: gradients with respect to the variables of modules."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from easyflax.nnx.core.filters import Everything, Filter, OfType, reads_structure_only, to_predicate
from easyflax.nnx.core.signatures import adds_gradients, returns_gradients
from easyflax.nnx.core.state import State
from easyflax.nnx.core.variables import Param, Variable
from easyflax.nnx.transforms.lift import run, unpack
from easyflax.nnx.transforms.packing import Call, bound_object, is_object, leaf_value, named_like, pack
from easyflax.nnx.transforms.tangents import (
    Part,
    Path,
    check_shared,
    is_differentiable,
    shown,
    split_pair,
    tree_of,
    with_defaults,
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


Argnums = int | DiffState | Sequence[int | DiffState]


@returns_gradients
def grad(
    f: Any = _MISSING,
    *,
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Sequence[Any] = (),
    wrt: Filter = _MISSING,
) -> Any:
    """Returns a function that computes the gradient of `f`; see `value_and_grad`.

    With `has_aux` it returns `(gradient, aux)`.

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
        "reduce_axes": reduce_axes,
        "wrt": wrt,
    }
    if f is _MISSING:
        return lambda f: grad(f, **options)
    differentiated = value_and_grad(f, **options)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads = differentiated(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return named_like(f, gradient)


@adds_gradients
def value_and_grad(
    f: Any = _MISSING,
    *,
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Sequence[Any] = (),
    wrt: Filter = _MISSING,
) -> Any:
    """Returns a function that computes `f` and its gradient.

    Args:
        f: returns a scalar, or `(scalar, aux)` with `has_aux`. Changes that it makes to modules (running
            statistics, random streams) are kept. Of a method bound to a module, the arguments are
            differentiated.
        argnums: the arguments to differentiate; a `DiffState` says for a module with respect to which
            variables. Arguments may be modules, states, variables, arrays, or containers of these.
        has_aux: `f` also returns something that is not differentiated; modules may be in it.
        holomorphic: `f` is a holomorphic function of complex numbers.
        allow_int: allow integer inputs; their gradients have dtype float0.
        reduce_axes: must be empty; jax no longer has it.
        wrt: which variables, where `argnums` does not say: by default those of kind `nnx.Param` of modules,
            and all of states and variables.

    Returns:
        a function that returns `(value, gradient)`, `((value, aux), gradient)` with `has_aux`. The gradient
        of a module is a `State` of variables of the same kinds, by path; with several `argnums` the gradients
        are a tuple. A variable that is shared is in the state where it is reached first, with its whole
        gradient.

    Raises:
        ValueError: a variable is reached from a differentiated argument and, outside of what is
            differentiated there, from another argument; an argument is named twice.
        TypeError: `argnums` names no argument; what is differentiated is not made of real or complex numbers.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> def loss(model, x):
        ...     return model(x).sum()
        >>> bias = nnx.DiffState(0, nnx.PathContains("bias"))
        >>> value, (grads, x_grad) = nnx.value_and_grad(loss, argnums=(bias, 1))(model, jnp.ones((4, 2)))
        >>> list(grads), x_grad.shape
        (['bias'], (4, 2))
    """
    options = {
        "argnums": argnums,
        "has_aux": has_aux,
        "holomorphic": holomorphic,
        "allow_int": allow_int,
        "reduce_axes": reduce_axes,
        "wrt": wrt,
    }
    if f is _MISSING:
        return lambda f: value_and_grad(f, **options)
    check_reduce_axes(reduce_axes)
    fun, bound = bound_object(f)
    requests = _requests(argnums, wrt)
    single = not isinstance(argnums, (list, tuple))

    def differentiated(*args: Any, **kwargs: Any) -> Any:
        args = (*bound, *args)
        if kwargs or any(request.argnum + len(bound) >= len(args) for request in requests):
            args, kwargs = with_defaults(fun, args, kwargs)
        plan = _plan(pack(args, kwargs), requests, len(bound))
        if not allow_int:
            _check_inexact(plan)
        value, grads = _differentiate(fun, plan, has_aux, holomorphic, allow_int)
        return value, grads[0] if single else grads

    return named_like(f, differentiated)


def check_reduce_axes(reduce_axes: Sequence[Any]) -> None:
    """Raises a NotImplementedError unless there are none."""
    if reduce_axes:
        raise NotImplementedError(
            f"reduce_axes got {reduce_axes!r}, expected (): jax no longer has it.\nReduce the gradients with "
            "jax.lax.psum or jax.lax.pmean."
        )


def _requests(argnums: Any, wrt: Filter) -> tuple[DiffState, ...]:
    several = argnums if isinstance(argnums, (list, tuple)) else (argnums,)
    requests = tuple(_request(one, wrt) for one in several)
    numbers = [request.argnum for request in requests]
    if not numbers:
        raise ValueError("argnums is empty, expected at least one argument to differentiate. Pass argnums=0.")
    for number in numbers:
        if numbers.count(number) > 1:
            raise ValueError(
                f"argnum {number} is repeated in argnums, expected each argument once.\nSelect several "
                "kinds of variables with one nnx.DiffState and a list of filters."
            )
    return requests


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


class _Plan(NamedTuple):
    """A call and what is differentiated in it: positions and parts, and the numbers of the leaves."""

    call: Call
    positions: list[int]
    parts: list[Part]
    leaves: list[int]


def _plan(call: Call, requests: tuple[DiffState, ...], shift: int) -> _Plan:
    """Decides what is differentiated; kept for later calls, where objects are arguments of their own."""
    key = (requests, shift, len(call.args), call.spec)
    is_kept = not call.spec.trees and all(_reads_kinds(request.filter) for request in requests)
    if is_kept and key in call.walk.specs:
        return _Plan(call, *call.walk.specs[key])
    positions = [_position(request.argnum, len(call.args) - shift) + shift for request in requests]
    taken: set[int] = set()
    parts = [
        Part(
            f"argument {position - shift}",
            tree_of(call, position),
            call.spec.graphdef,
            call.spec.graphdef.roots,
            taken,
            _selection(call, request.filter),
        )
        for request, position in zip(requests, positions, strict=True)
    ]
    check_shared(call, parts, positions)
    leaves = sorted(taken)
    if is_kept and all(part.roots for part in parts):
        call.walk.specs[key] = positions, parts, leaves
    return _Plan(call, positions, parts, leaves)


def _reads_kinds(filter: Filter) -> bool:
    """Whether a filter is known not to look at values, which may change between calls."""
    return filter is _MISSING or reads_structure_only(filter)


def _selection(call: Call, filter: Filter) -> Callable[[int, Path, int], bool]:
    def select(root: int, path: Path, leaf: int) -> bool:
        is_whole = isinstance(call.objects[root], (State, Variable))
        default = Everything() if is_whole else OfType(Param)
        predicate = default if filter is _MISSING else to_predicate(filter)
        return predicate(path, leaf_value(call, leaf))

    return select


def _position(argnum: int, count: int) -> int:
    if not -count <= argnum < count:
        raise TypeError(
            f"argnums names argument {argnum}, but the function was called with {count} positional "
            "arguments. Pass what is differentiated "
            "by position."
        )
    return argnum % count


def _check_inexact(plan: _Plan) -> None:
    values = plan.call.walk.values()
    kinds = {getattr(values[leaf], "dtype", None) for leaf in plan.leaves}
    if all(kind is not None and jnp.issubdtype(kind, jnp.inexact) for kind in kinds):
        return  # quickly, for the usual case
    for part in plan.parts:
        for pairs in part.leaves:
            for path, leaf in pairs:
                if not all(map(is_differentiable, jax.tree.leaves(values[leaf]))):
                    value = leaf_value(plan.call, leaf)
                    raise TypeError(
                        f"{part.where} has a {type(value).__name__} of dtype "
                        f"{getattr(value, 'dtype', None)} at '{shown(path)}', expected real- or "
                        "complex-valued inputs to differentiate.\nSelect others with nnx.DiffState(argnum, "
                        "filter), or pass allow_int=True."
                    )


def _differentiate(
    fun: Callable[..., Any], plan: _Plan, has_aux: bool, holomorphic: bool, allow_int: bool
) -> tuple[Any, tuple[Any, ...]]:
    call = plan.call
    values = call.walk.values()

    @functools.wraps(fun)
    def scalar(*args: Any, **kwargs: Any) -> Any:
        if not has_aux:
            return _loss(fun(*args, **kwargs))
        pair = split_pair(
            fun(*args, **kwargs), "The function to differentiate, with has_aux=True,", "loss", "aux"
        )
        return _loss(pair[0]), pair[1]

    def pure(diff_values: list[Any], diff_trees: list[Any]) -> Any:
        inner = list(values)
        for leaf, value in zip(plan.leaves, diff_values, strict=True):
            inner[leaf] = value
        args = list(call.args)
        for position, tree in zip(plan.positions, diff_trees, strict=True):
            args[position] = tree
        out, changed, outcome = run(scalar, call.spec, inner, args, call.kwargs, transform="grad")
        return out[0] if has_aux else out, (out, changed, outcome)

    differentiated = jax.value_and_grad(
        pure, argnums=(0, 1), has_aux=True, holomorphic=holomorphic, allow_int=allow_int
    )
    (_, (out, changed, outcome)), (value_grads, tree_grads) = differentiated(
        [values[leaf] for leaf in plan.leaves], [tree_of(call, position) for position in plan.positions]
    )
    by_leaf = dict(zip(plan.leaves, value_grads, strict=True))

    def gradient_of(leaf: int) -> Any:
        value = leaf_value(call, leaf)
        return value.copy(by_leaf[leaf]) if isinstance(value, Variable) else by_leaf[leaf]

    grads = tuple(part.states(gradient_of, tree) for part, tree in zip(plan.parts, tree_grads, strict=True))
    return unpack(call, out, changed, outcome), grads


def _loss(value: Any) -> Any:
    """Returns a loss as an array."""
    if isinstance(value, Variable):
        return value.get_value()
    if is_object(value):
        raise TypeError(
            f"The function to differentiate returned a {type(value).__name__}, expected a scalar.\nReturn "
            "the loss, and other things beside it with has_aux=True."
        )
    return value
