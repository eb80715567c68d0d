"""Logs how large the gradients are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from easyflax.callbacks.keep_gradients import grads_of
from easyflax.callbacks.model_views import weights_by_tag
from easyflax.train.additions import StepAddition, Update
from easyflax.train.callback import Callback
from easyflax.train.logs import add_to_logs
from easyflax.train.plan import Plan

__all__ = ["GradientNorm"]

_NAME = "gradient_norm"


@dataclass(frozen=True)
class MeasureGradients(StepAddition):
    """Measures the gradients of each update.

    Attributes:
        per_parameter: whether each parameter is measured too.
    """

    per_parameter: bool = False

    needs_gradients: ClassVar[bool] = True

    def init(self, params: dict[str, Any]) -> dict[str, Any]:
        """Returns zeros: the norm of the newest update; count, sum and largest of all; sums by path."""
        zero = jnp.zeros((), jnp.float32)
        sums = dict.fromkeys(params if self.per_parameter else (), zero)
        return {"newest": zero, "count": zero, "sum": zero, "largest": zero, "sums": sums}

    def after_update(self, state: dict[str, Any], update: Update) -> dict[str, Any]:
        """Returns the state with the norms of one more update."""
        grads = jax.tree.map(lambda grad: grad.astype(jnp.float32), grads_of(update, self.name))
        norm = jnp.asarray(optax.tree.norm(grads), jnp.float32)
        sums = {path: total + optax.tree.norm(grads[path]) for path, total in state["sums"].items()}
        return {
            "newest": norm,
            "count": state["count"] + 1,
            "sum": state["sum"] + norm,
            "largest": jnp.maximum(state["largest"], norm),
            "sums": sums,
        }


class GradientNorm(Callback):
    """Logs the L2 norm of all gradients together, as the optimizer gets them, before it clips them.

    The logs of an epoch get `gradient_norm`, the mean over its updates, and `gradient_norm_max`. They are
    measured within the compiled step, and fetched once an epoch.

    Args:
        per_parameter: logs the mean norm of each parameter too, as `gradient_norm/<layer>/<weight>`.
        log_batches: adds the norm of the newest update to the logs of batches as `gradient_norm`; whoever
            reads them waits for the device.

    Raises:
        ValueError: in `fit`, a `train_step` of the model's own keeps the gradients to itself.
    """

    def __init__(self, per_parameter: bool = False, *, log_batches: bool = False):
        super().__init__()
        self.per_parameter = per_parameter
        self.log_batches = log_batches
        if log_batches:
            self.on_train_batch_end = self._log_batch

    def configure(self, plan: Plan) -> Plan:
        """Has the step measure its gradients."""
        return plan.adding(MeasureGradients(_NAME, self.per_parameter))

    def next_batch_needed(self, batch: int) -> None:  # noqa: ARG002
        """Returns None: the norm of the newest update can be added to any logs."""
        return None  # noqa: RET501

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        state = self.model.addition_state(_NAME)
        self.model.set_addition_state(_NAME, jax.tree.map(np.zeros_like, jax.device_get(state)))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        del epoch
        state = jax.device_get(self.model.addition_state(_NAME))
        count = float(state["count"])
        if logs is None or not count:
            return
        logs[_NAME] = float(state["sum"]) / count
        logs[f"{_NAME}_max"] = float(state["largest"])
        for tag, total in weights_by_tag(self.model, state["sums"]).items():
            logs[f"{_NAME}/{tag}"] = float(total) / count

    def _log_batch(self, batch: int, logs: Any = None) -> None:
        del batch
        newest = self.model.addition_state(_NAME)["newest"]
        add_to_logs(logs, {_NAME: jnp.copy(newest)})  # a copy, for the next step deletes the state's own
