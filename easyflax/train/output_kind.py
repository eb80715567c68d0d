"""Does a model end in probabilities or in logits?

Keras's cross-entropies take probabilities when given by name, people who write NNX modules return logits.
Nobody has to say which: the inference forward is traced, and the last operations of the trace are looked at.

    softmax   an exponential divided by its own sum     probabilities
    sigmoid   the logistic function                     probabilities
    else      log_softmax, a linear layer, ...          logits

Operations that only move or cast numbers (reshape, transpose, cast, squeeze, ...) are looked through, calls
(jit, custom_jvp, remat) are looked into. A model that ends otherwise, say in `exp(log_softmax(x))`, says it
itself by a loss with `from_logits=False`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # jax.extend is slow to import
    from jax.extend.core import ClosedJaxpr, Jaxpr

OutputKind = Literal["softmax", "sigmoid", "logits"]

_MOVES = ("broadcast_in_dim", "expand_dims", "reshape", "rev", "slice", "squeeze", "transpose")
_CASTS = ("convert_element_type", "copy", "reduce_precision", "sharding_constraint", "stop_gradient")
_LOOK_THROUGH = frozenset((*_MOVES, *_CASTS))


@dataclass(eq=False)
class _Node:
    """One value of the trace: the operation that made it and what that took; an input has neither."""

    operation: str
    inputs: tuple[_Node, ...] = ()


def output_kinds(traced: ClosedJaxpr) -> list[OutputKind]:
    """Returns for every output of the trace how it was made.

    Args:
        traced: what `jax.make_jaxpr` returns for the inference forward.
    """
    jaxpr = traced.jaxpr
    return [_kind(node) for node in _nodes(jaxpr, [_Node("input") for _ in jaxpr.invars])]


def _kind(node: _Node) -> OutputKind:
    node = _origin(node)
    if node.operation == "logistic":
        return "sigmoid"
    if node.operation == "div" and _is_exponential_over_its_sum(*map(_origin, node.inputs)):
        return "softmax"
    return "logits"


def _is_exponential_over_its_sum(numerator: _Node, denominator: _Node) -> bool:
    if numerator.operation != "exp" or denominator.operation != "reduce_sum":
        return False
    summed = _origin(denominator.inputs[0])
    # The same value, or, where the source wrote it twice, the exponential of the same value.
    return summed is numerator or (
        summed.operation == "exp" and _origin(summed.inputs[0]) is _origin(numerator.inputs[0])
    )


def _origin(node: _Node) -> _Node:
    while node.operation in _LOOK_THROUGH:
        node = node.inputs[0]
    return node


def _nodes(jaxpr: Jaxpr, inputs: Sequence[_Node]) -> list[_Node]:
    """Returns the nodes of the outputs of `jaxpr`, with calls written out in place."""
    made: dict[Any, _Node] = dict(zip(jaxpr.invars, inputs, strict=True))

    def node_of(atom: Any) -> _Node:
        # Literals are not hashable; what no operation made is a constant of the trace.
        return _Node("constant") if hasattr(atom, "val") else made.setdefault(atom, _Node("constant"))

    for equation in jaxpr.eqns:
        taken = tuple(map(node_of, equation.invars))
        inner = _called(equation)
        if inner is not None and len(inner.invars) == len(taken):
            results = _nodes(inner, taken)
        else:
            results = [_Node(equation.primitive.name, taken) for _ in equation.outvars]
        made.update(zip(equation.outvars, results, strict=True))
    return [node_of(atom) for atom in jaxpr.outvars]


def _called(equation: Any) -> Jaxpr | None:
    """Returns the body of a call that runs once with the equation's own inputs, if that is what it is."""
    if equation.primitive.name in ("scan", "while", "cond", "shard_map"):
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        body = equation.params.get(key)
        if body is not None:
            return body.jaxpr if hasattr(body, "jaxpr") else body
    return None
