"""Everything that a training step reads and replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Health(NamedTuple):
    """Whether the loss has been finite, kept on the device.

    Attributes:
        first_nonfinite: int32, the first step of this fit whose loss was NaN or infinite; -1: none was.
        last_finite: float32, the loss of the last step before that one; NaN before the first step.
    """

    first_nonfinite: jax.Array
    last_finite: jax.Array


def healthy() -> Health:
    """Returns the state before any step."""
    return Health(jnp.full((), -1, jnp.int32), jnp.full((), jnp.nan, jnp.float32))


def watch(health: Health, loss: jax.Array, step: jax.Array) -> Health:
    """Returns `health` after `step` with its `loss`."""
    fine = health.first_nonfinite < 0
    finite = jnp.isfinite(loss)
    return Health(
        jnp.where(fine & ~finite, step, health.first_nonfinite),
        jnp.where(fine & finite, loss, health.last_finite),
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The state of training: a pytree of arrays in plain dicts, which `jit` flattens without running Python.

    Attributes:
        params: the trainable variables, from path ("layers.0.kernel") to array.
        other: all other variables likewise: batch statistics, keys and counts of random streams, caches.
        opt_state: the optimizer's state.
        metrics: for each log name the accumulator of the running epoch.
        step: int32, steps done since the model was compiled.
        health: see `Health`.
    """

    params: dict[str, Any]
    other: dict[str, Any]
    opt_state: Any
    metrics: dict[str, Any]
    step: jax.Array
    health: Health
