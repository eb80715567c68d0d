"""The learning rate: what it may be, and reading and setting it where it lives, in the optimizer's state."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

__all__ = [
    "LearningRate",
    "as_learning_rate",
    "check_learning_rate",
    "get_learning_rate",
    "rate_holders",
    "set_learning_rate",
]

LearningRate = float | Callable[..., Any]


def as_learning_rate(rate: Any, owner: str) -> LearningRate:
    """Returns a finite float or a schedule, which is a function of the step's number.

    Args:
        rate: a number, a function of the step's number, or one of nothing.
        owner: begins the messages.

    Raises:
        TypeError: it is neither a number nor a function.
        ValueError: it is negative or not finite.
    """
    if callable(rate) and not isinstance(rate, type):
        return rate if _takes_the_step(rate) else _OfNoStep(rate)
    return check_learning_rate(rate, owner)


def check_learning_rate(rate: Any, owner: str) -> float:
    """Returns `rate` as a float; raises unless it can be a learning rate."""
    try:
        rate = math.inf if isinstance(rate, bool) else float(rate + 0)
    except (TypeError, ValueError):
        raise TypeError(
            f"{owner}: learning_rate is {rate!r}, expected a number or a schedule. Pass for example 0.001."
        ) from None
    if not math.isfinite(rate) or rate < 0:
        raise ValueError(
            f"{owner}: learning_rate is {rate}, expected a finite number of at least zero. Pass for example "
            "0.001."
        )
    return rate


def get_learning_rate(opt_state: Any) -> jax.Array:
    """Returns the learning rate that the state holds: of the next step, or of the last one under a schedule.

    Args:
        opt_state: the state of an `ef.optimizers` object or of `optax.inject_hyperparams(...)`.

    Raises:
        ValueError: the state holds no learning rate, or several.
    """
    return _holder(opt_state).hyperparams["learning_rate"]


def set_learning_rate(opt_state: Any, value: float) -> Any:
    """Returns the state with another learning rate, of the same dtype and on the same devices.

    Raises:
        TypeError: the learning rate follows a schedule, which would overwrite `value` at the next step; or
            `value` is no number.
        ValueError: the state holds no learning rate, or several; or `value` is negative or not finite.
    """
    if not isinstance(value, Tracer):
        check_learning_rate(value, "set_learning_rate")
    holder = _holder(opt_state)
    if "learning_rate" in getattr(holder, "hyperparams_states", {}):
        raise TypeError(
            "The learning rate follows a schedule, expected a number, because the schedule sets it anew at "
            "every step. Compile with a number, such as ef.optimizers.Adam(learning_rate=0.001), to set it "
            "by hand."
        )

    def replace(node: Any) -> Any:
        if not _holds_rate(node):
            return node
        rate = jnp.full_like(node.hyperparams["learning_rate"], value)  # keeps dtype and sharding
        return node._replace(hyperparams={**node.hyperparams, "learning_rate": rate})

    return jax.tree.map(replace, opt_state, is_leaf=_holds_rate)


def rate_holders(opt_state: Any) -> list[Any]:
    """Returns the parts of the state that hold a learning rate: states of `optax.inject_hyperparams`."""
    return [node for node in jax.tree.leaves(opt_state, is_leaf=_holds_rate) if _holds_rate(node)]


def _holds_rate(node: Any) -> bool:
    return "learning_rate" in (getattr(node, "hyperparams", None) or {})


def _holder(opt_state: Any) -> Any:
    nodes = rate_holders(opt_state)
    if len(nodes) != 1:
        raise ValueError(
            f"The optimizer's state holds {len(nodes) or 'no'} learning rate{'s' * (len(nodes) > 1)}, "
            "expected one. Use an ef.optimizers object, or wrap the optax optimizer: "
            "optax.inject_hyperparams(optax.adam)(learning_rate=0.001)."
        )
    return nodes[0]


class _OfNoStep:
    """A function of no arguments as a schedule, as Keras takes it too."""

    def __init__(self, rate: Callable[[], Any]):
        self.rate = rate

    def __call__(self, step: Any) -> Any:
        del step
        return self.rate()


def _takes_the_step(rate: Callable[..., Any]) -> bool:
    try:
        inspect.signature(rate).bind(0)
    except TypeError:
        return False
    except ValueError:  # builtins tell nothing
        return True
    return True
