"""Everything that a training step reads and replaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.train.packing import Packed


class Counters(NamedTuple):
    """What a step counts and watches over, on the device.

    Attributes:
        steps: int32 `(2,)`: how many steps were done since the model was compiled, and the number of the
            first step of this fit whose loss was NaN or infinite (-1: none). In one array, as each one costs.
        last_finite: float32 `()`, the loss of the last step before that one; NaN before the first step.
    """

    steps: jax.Array
    last_finite: jax.Array


def start_counters(step: jax.Array) -> Counters:
    """Returns the counters of a fit that begins after `step` steps."""
    return Counters(jnp.stack([step, jnp.full_like(step, -1)]), jnp.full((), jnp.nan, jnp.float32))


def counters_on_host(step: int) -> Counters:
    """Returns the same as `start_counters` as NumPy arrays, for which nothing is compiled."""
    return Counters(np.array([step, -1], np.int32), np.full((), np.nan, np.float32))  # type: ignore[arg-type]


def count_step(counters: Counters, loss: jax.Array, is_excused: jax.Array | bool = False) -> Counters:
    """Returns the counters after one more step.

    Args:
        counters: before it.
        loss: of the step.
        is_excused: whether the loss may be NaN or infinite.
    """
    step, first_nonfinite = counters.steps
    was_fine, is_finite = first_nonfinite < 0, jnp.isfinite(loss)
    first_nonfinite = jnp.where(was_fine & ~is_finite & ~jnp.asarray(is_excused), step, first_nonfinite)
    last_finite = jnp.where(was_fine & is_finite, loss.astype(jnp.float32), counters.last_finite)
    return Counters(jnp.stack([step + 1, first_nonfinite]), last_finite)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The state of training: a pytree of arrays in plain dicts, which `jit` flattens without running Python.

    Attributes:
        params: the trainable variables, from path ("layers.0.kernel") to array.
        other: all other variables likewise: batch statistics, keys and counts of random streams, caches.
        opt_state: the optimizer's state.
        metrics: the accumulators of the running epoch, packed (see `Objective.metric_packing`).
        counters: see `Counters`.
        additions: the states of what callbacks put into the step, by name.
    """

    params: dict[str, Any]
    other: dict[str, Any]
    opt_state: Any
    metrics: Packed
    counters: Counters
    additions: dict[str, Any] = field(default_factory=dict)
