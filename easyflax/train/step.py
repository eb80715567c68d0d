"""The three steps, as pure functions of arrays: what is jitted and runs on the device.

    train_step(objective, state, batch)                       -> (state, report)
    eval_step(objective, params, other, metrics, batch)       -> (metrics, report)
    predict_step(apply, params, other, x)                     -> outputs

`objective` is static: what the model computes, what it is scored by, and what updates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from easyflax.data import Batch
from easyflax.losses import Loss
from easyflax.metrics import Mean, Metric
from easyflax.train.state import Health, TrainState, watch

LOSS_MEAN = Mean("loss")


class Apply(Protocol):
    """A module as a pure function, see `Binding.apply`."""

    def __call__(
        self, params: dict[str, Any], other: dict[str, Any], x: Any, *, training: bool
    ) -> tuple[Any, dict[str, Any]]: ...


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
    """

    apply: Apply
    loss: Loss
    metrics: Mapping[str, Metric]
    optimizer: optax.GradientTransformation
    output_shape: Any
    row_wise: bool

    def check_labels(self, y: Any) -> None:
        """Raises if the loss cannot use the targets `y`, a nesting of NumPy arrays, for this output."""
        if isinstance(y, np.ndarray) and isinstance(self.output_shape, tuple):
            self.loss.check_labels(y, self.output_shape)

    def fresh_metrics(self) -> dict[str, Any]:
        """Returns the accumulators of an epoch that has not begun."""
        return {"loss": LOSS_MEAN.init(), **{name: metric.init() for name, metric in self.metrics.items()}}


class Report(NamedTuple):
    """What a step leaves on the device for people to look at.

    Attributes:
        values: by log name, the mean over the epoch so far.
        health: see `Health`; None for evaluation.
    """

    values: dict[str, jax.Array]
    health: Health | None = None


def train_step(objective: Objective, state: TrainState, batch: Batch) -> tuple[TrainState, Report]:
    """Returns the state after one step of training on `batch`, and the report."""

    def loss_of(params: dict[str, Any]) -> tuple[jax.Array, tuple[Any, dict[str, Any]]]:
        y_pred, other = objective.apply(params, state.other, batch.x, training=True)
        return objective.loss(batch.y, y_pred), (y_pred, other)

    (loss, (y_pred, other)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = objective.optimizer.update(grads, state.opt_state, state.params)
    metrics = accumulate(objective, state.metrics, loss, batch, y_pred)
    health = watch(state.health, loss, state.step)
    params = cast(dict[str, Any], optax.apply_updates(state.params, updates))
    after = TrainState(params, other, opt_state, metrics, state.step + 1, health)
    return after, Report(results(objective, metrics), health)


def eval_step(
    objective: Objective, params: dict[str, Any], other: dict[str, Any], metrics: dict[str, Any], batch: Batch
) -> tuple[dict[str, Any], Report]:
    """Returns the accumulators after `batch`, scored in inference mode, and the report."""
    y_pred, _ = objective.apply(params, other, batch.x, training=False)
    loss = objective.loss(batch.y, y_pred, mask=batch.mask)
    metrics = accumulate(objective, metrics, loss, batch, y_pred)
    return metrics, Report(results(objective, metrics))


def predict_step(apply: Apply, params: dict[str, Any], other: dict[str, Any], x: Any) -> Any:
    """Returns the outputs for `x` in inference mode.

    Raises:
        ValueError: an output does not have a row for each row of `x`.
    """
    outputs, _ = apply(params, other, x, training=False)
    rows = jax.tree.leaves(x)[0].shape[0]
    for output in jax.tree.leaves(outputs):
        if jnp.ndim(output) == 0 or output.shape[0] != rows:
            raise ValueError(
                f"predict: the model returned shape {jnp.shape(output)} for a batch of {rows} rows, "
                f"expected ({rows}, ...). Return one entry a row, or call the module itself: model(x)."
            )
    return outputs


def accumulate(
    objective: Objective, metrics: dict[str, Any], loss: jax.Array, batch: Batch, y_pred: Any
) -> dict[str, Any]:
    """Returns the accumulators with one batch added; the loss weighs as much as the batch has real rows."""
    rows = jax.tree.leaves(batch.x)[0].shape[0] if batch.mask is None else jnp.sum(batch.mask)
    updated = {
        name: metric.update(metrics[name], batch.y, y_pred, batch.mask)
        for name, metric in objective.metrics.items()
    }
    mean = LOSS_MEAN.add(metrics["loss"], loss[None], weight=jnp.full((1,), rows, jnp.float32))
    return {"loss": mean, **updated}


def results(objective: Objective, metrics: dict[str, Any]) -> dict[str, jax.Array]:
    """Returns the value of every accumulator by log name."""
    values = {name: metric.result(metrics[name]) for name, metric in objective.metrics.items()}
    return {"loss": LOSS_MEAN.result(metrics["loss"]), **values}
