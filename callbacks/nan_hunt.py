"""Finds the layer in which the first NaN or infinity of a training run came up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from easyflax.data import Batch, WatchedSource
from easyflax.errors import NonFiniteLossError
from easyflax.optimizers import loss_scale
from easyflax.train.additions import StepAddition, Update
from easyflax.train.callback import Callback
from easyflax.train.nan_search import Finding, find_nonfinite
from easyflax.train.plan import Plan
from easyflax.train.session import Session
from easyflax.train.state import start_counters

__all__ = ["NaNHunt"]

_NAME = "nan_hunt"


@dataclass(frozen=True)
class WatchFinite(StepAddition):
    """Notes whether the gradients and the parameters of the newest update are finite."""

    needs_gradients: ClassVar[bool] = True

    def init(self, params: dict[str, Any]) -> dict[str, Any]:
        """Returns that all is finite."""
        del params
        return {"grads": jnp.ones((), bool), "params": jnp.ones((), bool)}

    def after_update(self, state: dict[str, Any], update: Update) -> dict[str, Any]:
        """Returns what is finite after an update."""
        grads = state["grads"] if update.grads is None else _all_finite(update.grads)
        return {"grads": grads, "params": _all_finite(update.params)}


class NaNHunt(Callback):
    """Stops `fit` at the first step with a NaN or an infinity, and says where that came up.

    Each step is checked: its loss, its gradients, the weights after it. When one of them is not finite, the
    step is computed once more from the weights before it, layer by layer, and the error tells epoch, batch,
    the layer, whether it was in the forward or in the backward pass, and what its inputs, weights and outputs
    looked like. For debugging: it keeps a copy of the state for each step, and waits for each.

    Where a `train_step` of the model's own computes loss and gradients, what is looked at is the call of the
    model on `x`.

    Raises:
        NonFiniteLossError: in `fit`, something was not finite.
        ValueError: in `fit`, several steps are one execution.

    Attributes:
        finding: where it came up, with `where`, `path` and `details`; None before, or if it could not be
            found again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finding: Finding | None = None
        self._batch: Batch | None = None
        self._epoch = 0
        self._before: Any = None
        self._step = 0

    def configure(self, plan: Plan) -> Plan:
        """Has each step checked, and the batches remembered."""
        if self.model.steps_per_execution not in (1, "auto"):
            raise ValueError(
                f"NaNHunt: steps_per_execution is {self.model.steps_per_execution}, expected 1, to look at "
                "each step. Set model.steps_per_execution = 1."
            )
        source = WatchedSource(plan.source, self._remember)
        return replace(plan.adding(WatchFinite(_NAME)), source=source, raises_nonfinite=False)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self.finding = None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        del batch, logs
        session: Session = self.model._session
        params, other = session.layout.copy_home(session.arrays())
        self._before, self._step = (params, other), session.steps_done

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        wrong = self._wrong()
        if not wrong:
            return
        self.finding = self._search()
        raise NonFiniteLossError(self._message(batch, wrong))

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._forget()

    def on_exception(self, exception: BaseException) -> None:
        del exception
        self._forget()

    def _remember(self, epoch: int, count: int, batch: Batch) -> None:
        del epoch, count
        self._batch = batch

    def _forget(self) -> None:
        self._before = self._batch = None

    def _wrong(self) -> list[str]:
        """Returns what is not finite after the newest step."""
        session: Session = self.model._session
        finite, counters = jax.device_get((self.model.addition_state(_NAME), session.state.counters))
        # With a scaled loss gradients may be infinite: the optimizer leaves such steps out.
        is_scaled = loss_scale(session.state.opt_state) is not None
        is_wrong = {
            "the loss": counters.steps[1] >= 0,
            "gradients": not finite["grads"] and not is_scaled,
            "the weights after the step": not finite["params"],
        }
        return [name for name, wrong in is_wrong.items() if wrong]

    def _search(self) -> Finding | None:
        session: Session = self.model._session
        steps, objective = session.steps, session.steps.objective
        key = objective.key(start_counters(jnp.asarray(self._step, jnp.int32)))
        assert self._batch is not None  # a step was done
        params, other = self._before
        batch = jax.tree.map(jnp.asarray, self._batch)
        known = objective if steps.own is None else None
        return steps.in_its_precision(find_nonfinite)(known, session.binding, params, other, batch, key)

    def _message(self, batch: int, wrong: list[str]) -> str:
        steps = self.params.get("steps")
        of_steps = f"/{steps}" if steps else ""
        where = (
            f"NaNHunt: NaN or infinity in epoch {self._epoch + 1}/{self.params.get('epochs', 1)}, batch "
            f"{batch + 1}{of_steps} ({', '.join(wrong)})"
        )
        if self.finding is not None:
            lines = "".join(f"\n    {line}" for line in self.finding.details)
            return f"{where}. It came up first in {self.finding.where}.{lines}"
        if wrong == ["the weights after the step"]:
            return f"{where}. Loss and gradients are finite: the update made it. Lower the learning rate."
        return (
            f"{where}, expected finite numbers. Computed once more, layer by layer, the step is finite: it "
            "comes up in how the compiled step rounds, in a train_step of the model's own, or at random."
        )


def _all_finite(arrays: dict[str, Any]) -> jax.Array:
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(arrays)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.ones((), bool)
