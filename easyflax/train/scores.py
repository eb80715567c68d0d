"""The accumulators of an epoch: of the loss and its parts, of what modules sow, and of the metrics.

They are pure: a state is a dict from log name to the arrays of one metric.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.data import Batch
from easyflax.metrics import Mean, Metric
from easyflax.nnx.core.variables import give_back, lend
from easyflax.train.compiled_metrics import CompiledMetrics
from easyflax.train.packing import Packed, Packing

__all__ = ["Scores", "real_rows"]

States = dict[str, list[Any]]


@dataclass(frozen=True)
class Scores:
    """Adds up batches.

    Attributes:
        mean_names: of the scalars whose mean over rows is logged: "loss", "a_loss", what modules sow.
        metrics: see `CompiledMetrics`.
    """

    mean_names: tuple[str, ...]
    metrics: CompiledMetrics

    def __post_init__(self) -> None:
        _ = self.accumulators  # made now: within a trace their variables would end with it

    @functools.cached_property
    def accumulators(self) -> dict[str, Metric]:
        """What accumulates, by log name."""
        means: dict[str, Metric] = {name: Mean(name=name) for name in self.mean_names}
        metrics = {name: scored.metric for name, scored in self.metrics.by_name.items()}
        return {"loss": means["loss"], **metrics, **means}  # in Keras's order

    def init(self) -> States:
        """Returns the states before the first batch."""
        return {name: metric.stateless_reset_state() for name, metric in self.accumulators.items()}

    def add(self, states: States, means: Mapping[str, Any], batch: Batch, y_pred: Any) -> States:
        """Returns the states with one batch more.

        Args:
            states: so far.
            means: the scalars by name; they weigh as much as the batch has real rows.
            batch: its targets, sample weights and mask are read.
            y_pred: what the model returned for it.
        """
        rows = real_rows(batch)
        updated: States = {
            name: self.accumulators[name].stateless_update_state(states[name], value, sample_weight=rows)
            for name, value in means.items()
        }
        for name, scored in self.metrics.by_name.items():
            y, outputs, weight = self.metrics.arguments(scored, batch.y, y_pred, batch.sample_weight)
            weights = _weights(weight, batch.mask)
            updated[name] = scored.metric.stateless_update_state(states[name], y, outputs, **weights)
        return {**states, **updated}

    def logs(self, states: States) -> dict[str, Any]:
        """Returns what the accumulators say so far, by log name."""
        logs: dict[str, Any] = {}
        for name, metric in self.accumulators.items():
            value = metric.stateless_result(states[name])
            logs.update(value if isinstance(value, Mapping) else {name: value})
        return {name: jnp.asarray(value) for name, value in logs.items()}

    def store(self, metrics: Packed) -> None:
        """Leaves packed states in the accumulators themselves, where `metric.result()` finds them."""
        variables = [variable for metric in self.accumulators.values() for variable in metric.variables]
        lend(variables, _Unread(self, metrics))

    def fresh(self) -> Packed:
        """Returns the packed states before the first batch."""
        return self.packing.pack(self.init())

    @functools.cached_property
    def packing(self) -> Packing:
        """How the states are packed."""
        return Packing(self.init)

    @functools.cached_property
    def log_packing(self) -> Packing:
        """How the logs are packed."""
        return Packing(lambda: self.logs(self.init()))


class _Unread:
    """Keeps packed states until somebody reads one of them: most programs never do.

    Args:
        scores: whose accumulators they are of.
        metrics: the states.
    """

    def __init__(self, scores: Scores, metrics: Packed):
        self._scores = scores
        self._metrics = metrics

    def fetch(self) -> None:
        """Gives the variables their values."""
        with jax.ensure_compile_time_eval():  # it may be somebody who is traced
            states = jax.device_put(self._scores.packing.unpack(jax.device_get(self._metrics)))
        for name, metric in self._scores.accumulators.items():
            for variable, state in zip(metric.variables, states[name], strict=True):
                give_back(variable, state)


def real_rows(batch: Batch) -> Any:
    """Returns how many rows of a batch are real, a float32 scalar."""
    rows = jax.tree.leaves(batch.x)[0].shape[0] if batch.mask is None else jnp.sum(batch.mask)
    return jnp.asarray(rows, jnp.float32)


def _weights(weight: Any, mask: Any) -> dict[str, Any]:
    """Returns sample weights as an argument, zero for rows that only pad the batch; none if all count."""
    if mask is None:
        return {} if weight is None else {"sample_weight": weight}
    if weight is None:
        return {"sample_weight": jnp.asarray(mask, jnp.float32)}
    weight = jnp.asarray(weight)
    rows = jnp.reshape(mask, (-1, *[1] * (weight.ndim - 1)))
    return {"sample_weight": jnp.where(rows, weight, 0)}
