"""Losses that layers add to the one that is trained on, such as a penalty on activations.

They are values that a module sows, of the kind `LossTerm`. `fit` and `evaluate` add up all that one pass
through the model leaves. In a plain call the module keeps them: calls of a layer that is shared within the
outermost layer add up, and the next call of that begins anew.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx

__all__ = [
    "LossTerm",
    "add_loss",
    "adding_by_copy",
    "checked_scalar",
    "collecting_losses",
    "has_added",
    "is_collecting",
    "loss_terms",
    "put_term",
]

_NAME = "loss_term"
_ALL: set[int] = set()  # stands for: whatever a module holds belongs to the running call
_added: ContextVar[set[int] | None] = ContextVar("_added", default=None)


class LossTerm(nnx.Intermediate[Any]):
    """A scalar that is added to the loss; any module may `sow` one.

    Examples:
        >>> import easyflax as ef
        >>> class Penalised(nnx.Linear):
        ...     def __call__(self, x):
        ...         y = super().__call__(x)
        ...         self.sow(ef.layers.LossTerm, "size", 0.1 * jnp.mean(y**2))
        ...         return y
        >>> model = ef.Model(Penalised(3, 3, rngs=nnx.Rngs(0)))
        >>> model.compile("sgd")
        >>> float(model.evaluate(jnp.zeros((8, 3)), verbose=0))
        0.0
    """


@contextmanager
def collecting_losses(*, anew: bool = True) -> Iterator[None]:
    """Has the losses that are added in the block add up.

    Args:
        anew: the first one that a module adds replaces what it holds from a call before.
    """
    token = _added.set(set() if anew else _ALL)
    try:
        yield
    finally:
        _added.reset(token)


def is_collecting() -> bool:
    """Says whether an outer call is running."""
    return _added.get() is not None


def has_added(module: Any) -> bool:
    """Says whether a module, or one inside, added something in the running plain call."""
    added = _added.get()
    return bool(added) and any(id(one) in added for one in _terms(module))


@contextmanager
def adding_by_copy(module: Any) -> Iterator[None]:
    """Has what a copy of a module adds in the block counted as added by the module, to which it is written
    back; see `collecting_losses`."""
    added = _added.get()
    if added is None or added is _ALL:
        yield
        return
    before = {id(one): one.get_raw_value() for one in _terms(module)}
    with collecting_losses():
        yield
    added.update(id(one) for one in _terms(module) if before.get(id(one)) is not one.get_raw_value())


def _terms(module: Any) -> list[nnx.Variable[Any]]:
    nodes = () if module is None else nnx.iter_graph(module)
    return [one for _, one in nodes if isinstance(one, nnx.Intermediate)]


def put_term(
    module: nnx.Module, kind: type[nnx.Variable[Any]], name: str, value: Any, join: Callable[[Any, Any], Any]
) -> None:
    """Gives a module a value of the running call.

    In a plain call within a transform that the module was not passed to, such as `jax.jit(model)`, nothing is
    kept, since nobody could read it.

    Args:
        module: gets the attribute.
        kind: of the variable that holds the value.
        name: of the attribute.
        value: in place of what the module holds of a call before.
        join: says what an earlier value of this call and `value` make together.

    Raises:
        TraceContextError: so called while the model is trained, where it would be lost.
    """
    variable, added = vars(module).get(name), _added.get()
    if added is not _ALL and not module._is_current():
        return
    if variable is None:
        variable = kind(value)
        setattr(module, name, variable)
    elif added is _ALL or (added is not None and id(variable) in added):
        variable.set_raw_value(join(variable.get_raw_value(), value))
    else:
        variable.set_raw_value(value)
    if added is not None and added is not _ALL:
        added.add(id(variable))


def checked_scalar(module: nnx.Module, value: Any, call: str) -> jax.Array:
    """Returns a value that a module adds, as an array.

    Raises:
        TypeError: it is symbolic.
        ValueError: it is no scalar.
    """
    if hasattr(type(value), "__easyflax_call__"):
        raise TypeError(
            f"{call}: got {value!r}, a symbolic value, expected an array. Call {call} in the call of a "
            "layer, which computes it from its inputs."
        )
    if jnp.shape(value) != ():
        raise ValueError(
            f"{call}: got shape {jnp.shape(value)} in {type(module).__name__}, expected a scalar. Sum it, "
            "or take its mean."
        )
    return jnp.asarray(value)


def add_loss(module: nnx.Module, loss: Any) -> None:
    """Adds a scalar, or several in a list, to the losses of a module; see `put_term`.

    Raises:
        TypeError: `loss` is symbolic.
        ValueError: it is no scalar.
    """
    for one in loss if isinstance(loss, list | tuple) else [loss]:
        put_term(module, LossTerm, _NAME, (checked_scalar(module, one, "add_loss"),), operator.add)


def loss_terms(module: nnx.Module) -> list[Any]:
    """Returns the scalars that a module and those inside added in their last call.

    What modules `sow` as a `LossTerm` themselves counts as well; several values are several terms.
    """
    found = nnx.to_flat_state(nnx.state(module, LossTerm))
    return jax.tree.leaves([variable.get_raw_value() for _, variable in found])
