"""`nnx.vjp` and `nnx.jvp`: derivatives along cotangents and tangents, of functions of modules.

Both differentiate with respect to everything in the primals. What is integer or a random key has a derivative
of dtype float0. Where objects are returned, their leaves are part of the mathematical output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, overload

import jax

from easyflax.nnx.core.graphdef import GraphDef, Ref, assemble, make_variables, resolve_root
from easyflax.nnx.core.signatures import R
from easyflax.nnx.transforms.autodiff import check_reduce_axes
from easyflax.nnx.transforms.lift import Outcome, run, unpack
from easyflax.nnx.transforms.packing import Call, bound_object, named_like, pack, put_back
from easyflax.nnx.transforms.tangents import (
    Part,
    Static,
    origins_of,
    shape_of,
    split_pair,
    tree_of,
    with_zeros,
    zeros_for,
)

A = TypeVar("A")

_MISSING: Any = object()


@overload
def vjp(
    f: Callable[..., R], primal: Any, /, *primals: Any, has_aux: Literal[False] = False
) -> tuple[R, Callable[..., Any]]: ...
@overload
def vjp(
    f: Callable[..., tuple[R, A]], primal: Any, /, *primals: Any, has_aux: Literal[True]
) -> tuple[R, Callable[..., Any], A]: ...
@overload
def vjp(f: Any = ..., *primals: Any, has_aux: bool = False, reduce_axes: Sequence[Any] = ()) -> Any: ...
def vjp(
    f: Any = _MISSING,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
) -> Any:
    """Computes `f(*primals)` and a function that maps cotangents of the output to those of the primals.

    Args:
        f: the function; changes that it makes to modules are kept. Without it, or without primals, a function
            of the primals is returned, so that it can be used as a decorator. Of a method bound to a module,
            only the arguments are differentiated.
        *primals: modules, states, variables, arrays, or containers of these.
        has_aux: `f` returns `(output, aux)`, and `aux` is not differentiated.
        reduce_axes: must be empty; jax no longer has it.

    Returns:
        `(output, vjp_fn)`, with `has_aux` `(output, vjp_fn, aux)`. `vjp_fn(cotangent)` takes what has the
        structure of the output, a state or a module for each module, and returns a tuple with a cotangent for
        each primal: for a module, a module of the same structure. `vjp_fn` is a pytree, and can be returned
        from `nnx.jit`.

    Raises:
        ValueError: the cotangent has another structure or shape than the output.
        TypeError: the cotangent has another dtype; with `has_aux`, `f` did not return a pair.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> y, vjp_fn = nnx.vjp(lambda model, x: model(x).sum(), model, jnp.ones((4, 2)))
        >>> model_grad, x_grad = vjp_fn(jnp.ones_like(y))
        >>> model_grad.bias.value.tolist(), x_grad.shape
        ([4.0, 4.0, 4.0], (4, 2))
    """
    check_reduce_axes(reduce_axes)
    if f is _MISSING:
        return lambda f: vjp(f, has_aux=has_aux)
    fun, bound = bound_object(f)

    def pull(*primals: Any) -> Any:
        target = _Target("vjp", fun, bound, primals, has_aux)
        outputs, pull_back, (out, changed, outcome) = jax.vjp(target.pure, *target.operands, has_aux=True)
        shapes, treedef = jax.tree.flatten(shape_of(outputs))
        layout = _Layout(target.graphdef, tuple(target.leaves), outcome, tuple(shapes), treedef)
        vjp_fn = jax.tree_util.Partial(_pull_back, Static(layout), pull_back)
        result = unpack(target.call, out, changed, outcome)
        return (result[0], vjp_fn, result[1]) if has_aux else (result, vjp_fn)

    return pull(*primals) if primals else named_like(f, pull)


@overload
def jvp(
    f: Callable[..., R], primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: Literal[False] = False
) -> tuple[R, Any]: ...
@overload
def jvp(
    f: Callable[..., tuple[R, A]], primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: Literal[True]
) -> tuple[R, Any, A]: ...
@overload
def jvp(
    f: Any = ..., primals: Sequence[Any] = ..., tangents: Sequence[Any] = ..., *, has_aux: bool = False
) -> Any: ...
def jvp(
    f: Any = _MISSING,
    primals: Sequence[Any] = _MISSING,
    tangents: Sequence[Any] = _MISSING,
    *,
    has_aux: bool = False,
) -> Any:
    """Computes `f(*primals)` and its derivative in the direction of the tangents.

    Args:
        f: the function; changes that it makes to modules are kept, and their tangents dropped. Without it, or
            without primals, a function of primals and tangents is returned, so that it can be used as a
            decorator. Of a method bound to a module, only the arguments are differentiated.
        primals: a tuple of modules, states, variables, arrays, or containers of these.
        tangents: a tuple with a tangent for each primal: for a module, a module of the same structure or a
            state. A state may leave variables out, which stay as they are; so may integers and random keys.
        has_aux: `f` returns `(output, aux)`, and `aux` is not differentiated.

    Returns:
        `(output, tangent of the output)`, with `has_aux` `(output, tangent, aux)`. The tangent of a module is
        a module of the same structure.

    Raises:
        ValueError: a tangent has another structure or shape than its primal.
        TypeError: a tangent has another dtype; primals and tangents are no tuples of the same length; with
            `has_aux`, `f` did not return a pair.

    Example:

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> model, x = nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jnp.ones(2)
        >>> direction = nnx.state(model, nnx.PathContains("bias"))
        >>> direction = jax.tree.map(jnp.ones_like, direction)
        >>> y, y_dot = nnx.jvp(lambda model, x: model(x), (model, x), (direction, jnp.zeros(2)))
        >>> y_dot.tolist()
        [1.0, 1.0, 1.0]
    """
    if f is _MISSING:
        return lambda f: jvp(f, has_aux=has_aux)
    fun, bound = bound_object(f)

    def push(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        _check_tuples(primals, tangents)
        target = _Target("jvp", fun, bound, tuple(primals), has_aux)
        _, (rest, leaf_tangents), (out, changed, outcome) = jax.jvp(
            target.pure, target.operands, target.read(tangents), has_aux=True
        )
        result = unpack(target.call, out, changed, outcome)
        graphdef = outcome.after or target.graphdef
        leaves = _output_part(rest, outcome, graphdef).numbers
        tangent = put_back(rest, _build(graphdef, outcome.outputs, leaves, leaf_tangents))
        return (result[0], tangent, result[1]) if has_aux else (result, tangent)

    if primals is _MISSING or tangents is _MISSING:
        return named_like(f, push)
    return push(primals, tangents)


class _Target:
    """A function of modules as a function of arrays: the leaves of the primals, and what is beside them."""

    def __init__(
        self,
        transform: str,
        fun: Callable[..., Any],
        bound: tuple[Any, ...],
        primals: tuple[Any, ...],
        has_aux: bool,
    ):
        self._transform = transform
        self.call: Call = pack((*bound, *primals), {})
        self.graphdef = self.call.spec.graphdef
        self._fun, self._has_aux, self._shift = fun, has_aux, len(bound)
        self._trees = [tree_of(self.call, len(bound) + i) for i in range(len(primals))]
        taken: set[int] = set()
        self._parts = [
            Part(f"argument {i}", tree, self.graphdef, self.graphdef.roots, taken)
            for i, tree in enumerate(self._trees)
        ]
        self.leaves = sorted(taken)

    @property
    def operands(self) -> tuple[list[Any], list[Any]]:
        values = self.call.walk.values()
        return [values[leaf] for leaf in self.leaves], self._trees

    def pure(self, leaf_values: Sequence[Any], trees: Sequence[Any]) -> Any:
        """Returns `(output without objects, values of the leaves of objects in it)`, and what `run` does."""
        values = list(self.call.walk.values())
        for leaf, value in zip(self.leaves, leaf_values, strict=True):
            values[leaf] = value
        args = [*self.call.args[: self._shift], *trees]
        out, changed, outcome = run(self._fun, self.call.spec, values, args, {}, transform=self._transform)
        main = out
        if self._has_aux:
            main, _ = split_pair(out, "The function to differentiate, with has_aux=True,", "output", "aux")
        new = dict(zip(outcome.leaves, changed, strict=True))
        origins = origins_of(outcome, self.graphdef)
        part = _output_part(main, outcome, outcome.after or self.graphdef)
        found = [new[leaf] if leaf in new else values[origins[leaf]] for leaf in part.numbers]
        return (main, found), (out, changed, outcome)

    def read(self, tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Returns the tangents of the operands."""
        values = self.call.walk.values()
        by_leaf: dict[int, Any] = {}
        rests = []
        for part, tree, tangent in zip(self._parts, self._trees, tangents, strict=True):
            found, rest = part.read(
                tangent, values.__getitem__, tree, f"The tangent of {part.where}", partial=True
            )
            by_leaf.update(found)
            rests.append(with_zeros(rest, tree))
        return _complete(by_leaf, self.leaves, [values[leaf] for leaf in self.leaves]), rests


@dataclasses.dataclass(frozen=True)
class _Layout:
    """What a function returned by `vjp` knows of primals and output: static.

    Attributes:
        graphdef: the structure of the primals.
        leaves: numbers of the leaves that are differentiated.
        outcome: what the function did to it.
        shapes: those of the output, and of the leaves of objects in it.
        treedef: the tree of `shapes`.
    """

    graphdef: GraphDef[Any]
    leaves: tuple[int, ...]
    outcome: Outcome
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    treedef: Any


def _pull_back(layout: Static, pull_back: Callable[..., Any], cotangent: Any) -> tuple[Any, ...]:
    """Returns the cotangents of the primals; what `vjp` returns, without its first two arguments."""
    known: _Layout = layout.value
    main, leaf_shapes = known.treedef.unflatten(known.shapes)
    part = _output_part(main, known.outcome, known.outcome.after or known.graphdef)
    shapes = dict(zip(part.numbers, leaf_shapes, strict=True))
    by_leaf, rest = part.read(
        cotangent, shapes.__getitem__, main, "The cotangent of the output", partial=True
    )
    leaf_cotangents, trees = pull_back(
        (with_zeros(rest, main), _complete(by_leaf, part.numbers, leaf_shapes))
    )
    objects = _build(known.graphdef, known.graphdef.roots, known.leaves, leaf_cotangents)
    return tuple(put_back(tree, objects) for tree in trees)


def _output_part(main: Any, outcome: Outcome, graphdef: GraphDef[Any]) -> Part:
    return Part("the output", main, graphdef, outcome.outputs, set())


def _complete(by_leaf: dict[int, Any], leaves: Sequence[int], likes: Sequence[Any]) -> list[Any]:
    """Returns the derivative of each leaf, zeros where there is none."""
    return [
        by_leaf[leaf] if leaf in by_leaf else zeros_for(like)
        for leaf, like in zip(leaves, likes, strict=True)
    ]


def _build(
    graphdef: GraphDef[Any], refs: Sequence[Ref], leaves: Sequence[int], values: Sequence[Any]
) -> list[Any]:
    """Builds the objects that `refs` refer to, around derivatives."""
    filled: list[Any] = [None] * graphdef.num_leaves
    for leaf, value in zip(leaves, values, strict=True):
        filled[leaf] = value
    count = len(graphdef.variables)
    variables = make_variables(graphdef, filled[:count])
    nodes = assemble(graphdef, variables, filled[count:])
    return [resolve_root(ref, nodes, variables, filled[count:]) for ref in refs]


def _check_tuples(primals: Any, tangents: Any) -> None:
    for name, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, (tuple, list)):
            raise TypeError(
                f"nnx.jvp got {name} of type {type(value).__name__}, expected a tuple with one entry for "
                f"each argument.\nPass ({name[:-1]},) for a single one."
            )
    if len(primals) != len(tangents):
        raise TypeError(
            f"nnx.jvp got {len(primals)} primals and {len(tangents)} tangents, expected a tangent for each "
            "primal.\nPass None, or zeros, for a primal that stays as it is."
        )
