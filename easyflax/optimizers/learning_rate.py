"""Reading and setting the learning rate where it lives: in the optimizer's state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.optimizers.base import check_learning_rate

__all__ = ["get_learning_rate", "set_learning_rate"]


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


def _holds_rate(node: Any) -> bool:
    return "learning_rate" in (getattr(node, "hyperparams", None) or {})


def _holder(opt_state: Any) -> Any:
    nodes = [node for node in jax.tree.leaves(opt_state, is_leaf=_holds_rate) if _holds_rate(node)]
    if len(nodes) != 1:
        raise ValueError(
            f"The optimizer's state holds {len(nodes) or 'no'} learning rate{'s' * (len(nodes) > 1)}, "
            "expected one. Use an ef.optimizers object, or wrap the optax optimizer: "
            "optax.inject_hyperparams(optax.adam)(learning_rate=0.001)."
        )
    return nodes[0]
