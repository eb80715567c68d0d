"""The three steps, as pure functions of arrays: what is jitted and runs on the device.

    train_step(objective, state, batch)                    -> (state, logs)
    eval_step(objective, params, other, metrics, batch)    -> (metrics, logs)
    predict_step(apply, params, other, x)                  -> outputs

`objective` is static: what the model computes, what it is scored by, and what updates it. Logs and the
accumulators behind them are packed (see `packing.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from easyflax.data import Batch
from easyflax.losses import Loss
from easyflax.metrics import Mean, Metric
from easyflax.train.packing import Packed, Packing
from easyflax.train.state import Counters, TrainState, count_step


class Apply(Protocol):
    """A module as a pure function, see `Binding.apply`."""

    def __call__(
        self,
        params: dict[str, Any],
        other: dict[str, Any],
        x: Any,
        *,
        training: bool,
        key: jax.Array | None = None,
    ) -> tuple[Any, dict[str, Any], list[jax.Array]]: ...


@dataclass(frozen=True)
class Objective:
    """What the steps compute.

    Attributes:
        apply: the module as a pure function.
        loss: scores a batch.
        metrics: by log name, without the loss.
        optimizer: updates the parameters.
        output_shape: of the model's output for one batch, in its nesting.
        row_wise: whether loss and metrics value each row, so that evaluation may pad the last batch.
        regularizers: by path, of parameters that have one; what they return is added to the loss.
        constraints: by path likewise; applied to the parameters after each update.
        seed: of the random streams that are passed to the module, None if it takes none.
        loss_mean: averages the losses of batches.
    """

    apply: Apply
    loss: Loss
    metrics: Mapping[str, Metric]
    optimizer: optax.GradientTransformation
    output_shape: Any
    row_wise: bool
    regularizers: Mapping[str, Callable[[Any], Any]]
    constraints: Mapping[str, Callable[[Any], Any]]
    seed: int | None = None
    loss_mean: Mean = field(default_factory=lambda: Mean("loss"))

    def key(self, counters: Counters) -> jax.Array | None:
        """Returns the key of the step that `counters` say comes next."""
        return None if self.seed is None else jax.random.fold_in(jax.random.key(self.seed), counters.steps[0])

    def whole_loss(self, loss: jax.Array, params: dict[str, Any], terms: list[jax.Array]) -> jax.Array:
        """Returns `loss` with what regularizers say of `params`, and the terms that the module added."""
        for name, regularizer in self.regularizers.items():
            loss = loss + regularizer(params[name])
        for term in terms:
            loss = loss + jnp.sum(term)
        return loss

    def constrain(self, params: dict[str, Any]) -> dict[str, Any]:
        """Returns `params` as the constraints want them, of the same dtypes."""
        held = {name: constraint(params[name]) for name, constraint in self.constraints.items()}
        return {
            name: jax.tree.map(lambda new, old: new.astype(old.dtype), held[name], value)
            if name in held
            else value
            for name, value in params.items()
        }

    def check_labels(self, y: Any) -> None:
        """Raises if the loss cannot use the targets `y`, a nesting of NumPy arrays, for this output."""
        if isinstance(y, np.ndarray) and isinstance(self.output_shape, tuple):
            self.loss.check_labels(y, self.output_shape)

    def fresh_metrics(self) -> Packed:
        """Returns the packed accumulators of an epoch that has not begun."""
        return self.metric_packing.pack(self._init_metrics())

    def logs(self, states: dict[str, Any]) -> dict[str, jax.Array]:
        """Returns the value of every accumulator by log name."""
        values = {name: metric.stateless_result(states[name]) for name, metric in self.metrics.items()}
        return {"loss": self.loss_mean.stateless_result(states["loss"]), **values}

    @functools.cached_property
    def metric_packing(self) -> Packing:
        """How the accumulators are packed."""
        return Packing(self._init_metrics)

    @functools.cached_property
    def log_packing(self) -> Packing:
        """How the logs are packed."""
        return Packing(lambda: self.logs(self._init_metrics()))

    def _init_metrics(self) -> dict[str, Any]:
        metrics = {"loss": self.loss_mean, **self.metrics}
        return {name: metric.stateless_reset_state() for name, metric in metrics.items()}


def train_step(objective: Objective, state: TrainState, batch: Batch) -> tuple[TrainState, Packed]:
    """Returns the state after a step on `batch`, and the packed logs: the means over the epoch so far."""
    key = objective.key(state.counters)

    def loss_of(params: dict[str, Any]) -> tuple[jax.Array, tuple[Any, dict[str, Any]]]:
        y_pred, other, terms = objective.apply(params, state.other, batch.x, training=True, key=key)
        return objective.whole_loss(objective.loss(batch.y, y_pred), params, terms), (y_pred, other)

    (loss, (y_pred, other)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = objective.optimizer.update(grads, state.opt_state, state.params)
    params = objective.constrain(cast(dict[str, Any], optax.apply_updates(state.params, updates)))
    metrics, logs = score(objective, state.metrics, loss, batch, y_pred)
    return TrainState(params, other, opt_state, metrics, count_step(state.counters, loss)), logs


def eval_step(
    objective: Objective, params: dict[str, Any], other: dict[str, Any], metrics: Packed, batch: Batch
) -> tuple[Packed, Packed]:
    """Returns the accumulators after `batch`, scored in inference mode, and the logs, both packed."""
    y_pred, _, terms = objective.apply(params, other, batch.x, training=False)
    loss = objective.whole_loss(objective.loss(batch.y, y_pred, mask=batch.mask), params, terms)
    return score(objective, metrics, loss, batch, y_pred)


def predict_step(apply: Apply, params: dict[str, Any], other: dict[str, Any], x: Any) -> Any:
    """Returns the outputs for `x` in inference mode.

    Raises:
        ValueError: an output does not have a row for each row of `x`.
    """
    outputs, _, _ = apply(params, other, x, training=False)
    rows = jax.tree.leaves(x)[0].shape[0]
    for output in jax.tree.leaves(outputs):
        if jnp.ndim(output) == 0 or output.shape[0] != rows:
            raise ValueError(
                f"predict: the model returned shape {jnp.shape(output)} for a batch of {rows} rows, "
                f"expected ({rows}, ...). Return one entry a row, or call the module itself: model(x)."
            )
    return outputs


def score(
    objective: Objective, metrics: Packed, loss: jax.Array, batch: Batch, y_pred: Any
) -> tuple[Packed, Packed]:
    """Returns the accumulators with one batch added, and the logs read from them."""
    states = objective.metric_packing.unpack(metrics)
    weights = {} if batch.mask is None else {"sample_weight": batch.mask}
    updated = {
        name: metric.stateless_update_state(states[name], batch.y, y_pred, **weights)
        for name, metric in objective.metrics.items()
    }
    # The loss weighs as much as the batch has real rows.
    rows = jax.tree.leaves(batch.x)[0].shape[0] if batch.mask is None else jnp.sum(batch.mask)
    updated["loss"] = objective.loss_mean.stateless_update_state(states["loss"], loss, sample_weight=rows)
    return objective.metric_packing.pack(updated), objective.log_packing.pack(objective.logs(updated))
