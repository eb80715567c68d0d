"""Losses that layers add to the one that is trained on, such as a penalty on activations.

They are values that a module sows, of the kind `LossTerm`. `fit` and `evaluate` add up all that one pass
through the model leaves. In a plain call the module keeps them: calls of a layer that is shared within the
outermost layer add up, and the next call of that begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx

__all__ = ["LossTerm", "add_loss", "collecting_losses", "is_collecting", "loss_terms"]

_NAME = "loss_term"
_ALL: set[int] = set()  # stands for: whatever a module holds belongs to the running call
_added: ContextVar[set[int] | None] = ContextVar("_added", default=None)


class LossTerm(nnx.Intermediate[Any]):
    """A scalar that is added to the loss."""


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


def add_loss(module: nnx.Module, loss: Any) -> None:
    """Adds a scalar to the losses of a module.

    In a plain call within a transform that the module was not passed to, such as `jax.jit(model)`, nothing is
    added, since nobody could read it.

    Raises:
        ValueError: `loss` is no scalar.
        TraceContextError: so called while the model is trained, where it would be lost.
    """
    if jnp.shape(loss) != ():
        raise ValueError(
            f"add_loss: got shape {jnp.shape(loss)} in {type(module).__name__}, expected a scalar. Sum it, "
            "or take its mean."
        )
    variable, added = vars(module).get(_NAME), _added.get()
    if added is not _ALL and not module._is_current():
        return
    if variable is None:
        variable = LossTerm(jnp.asarray(loss))
        setattr(module, _NAME, variable)
    elif added is _ALL or (added is not None and id(variable) in added):
        variable.set_raw_value(variable.get_raw_value() + loss)
    else:
        variable.set_raw_value(jnp.asarray(loss))
    if added is not None and added is not _ALL:
        added.add(id(variable))


def loss_terms(module: nnx.Module) -> list[Any]:
    """Returns the scalars that a module and those inside added in their last call.

    What modules `sow` as a `LossTerm` themselves counts as well; several values are several terms.
    """
    found = nnx.to_flat_state(nnx.state(module, LossTerm))
    return jax.tree.leaves([variable.get_raw_value() for _, variable in found])
