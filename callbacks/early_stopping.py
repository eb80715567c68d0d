"""Ends training when a logged value has stopped improving."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from easyflax.callbacks.arguments import check_number
from easyflax.callbacks.message import say
from easyflax.callbacks.monitor import Monitor
from easyflax.train.callback import Callback
from easyflax.train.plan import Plan

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Stops `fit` after `patience` epochs without improvement; arguments and decisions are Keras's.

    The first epoch of all never ends the patience. With a `baseline`, only an epoch that beats both it and
    the best so far starts the patience anew.

    Args:
        monitor: the name in the logs to go by.
        min_delta: the least change that counts as an improvement.
        patience: epochs without improvement after which the run ends.
        verbose: 1 says so when it stops and when it restores.
        mode: `"min"`, `"max"`, or `"auto"`, which knows the direction of the loss and of the model's metrics.
        baseline: a value to beat.
        restore_best_weights: at the end of the run, however it came, put back the weights of the best epoch
            (also if none beat the baseline). Weights are parameters and batch statistics; the optimizer goes
            on from where it is.
        start_from_epoch: epochs, counted from 0, before which nothing is looked at.
        check_finite: stop as soon as the value is NaN or infinite, instead of waiting as for any other value
            that is no improvement; a training loss that is not finite then ends the fit without an error.
        stopping_threshold: stop as soon as the value is better than this.
        divergence_threshold: stop as soon as the value is worse than this.
        strict: whether a `monitor` that is not in the logs is an error; else such epochs are passed over.

    Attributes:
        best: the best value so far.
        best_epoch: its epoch, counted from 0.
        stopped_epoch: the epoch that ended the run, 0 if none did.
        wait: epochs since the last improvement.

    Raises:
        TypeError: a number is of another type.
        ValueError: the mode is unknown, or a number is negative that cannot be; in `fit`, the monitor is not
            in the logs, or its direction is unknown.

    Examples:
        >>> import numpy as np
        >>> from easyflax import layers, models
        >>> model = models.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> stop = EarlyStopping("loss", patience=2, min_delta=10.0)  # more than the loss can fall
        >>> history = model.fit(np.ones((8, 2)), np.ones(8), epochs=9, verbose=0, callbacks=[stop])
        >>> history.epoch, stop.stopped_epoch
        ([0, 1, 2], 2)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        check_finite: bool = False,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        strict: bool = True,
    ):
        super().__init__()
        owner = type(self).__name__
        check_number(owner, min_delta=min_delta)
        check_number(owner, 0, patience=patience, start_from_epoch=start_from_epoch)
        limits = {
            "baseline": baseline,
            "stopping_threshold": stopping_threshold,
            "divergence_threshold": divergence_threshold,
        }
        check_number(owner, **{name: value for name, value in limits.items() if value is not None})
        self._monitor = Monitor(owner, monitor, mode, min_delta, strict=strict)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self._start_anew()

    @property
    def monitor(self) -> str:
        """The name in the logs."""
        return self._monitor.name

    def configure(self, plan: Plan) -> Plan:
        return dataclasses.replace(plan, raises_nonfinite=False) if self.check_finite else plan

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._start_anew()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        current = self._monitor.value(logs or {}, validates=self.validates)
        if current is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self._best_weights is None:
            self._remember_weights(epoch)
        self.wait += 1
        if self._is_better(current, self.best):
            self.best = current
            self._remember_weights(epoch)
            if self.baseline is None or self._is_better(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self._stop(epoch, "")
        if fault := self._passed_limit(current):
            self._stop(epoch, f": {self.monitor} is {current:.6g}, {fault}")

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        if self._reason is not None and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping{self._reason}")
        if self._best_weights is None:
            return
        if self.verbose:
            say(f"Restoring the weights of epoch {self.best_epoch + 1}, the best one")
        self.model.set_state(self._best_weights)
        self._best_weights = None  # gives their memory back

    def state_dict(self) -> dict[str, Any]:
        """Returns the best epoch so far, with its weights if they are to be restored, and what decides."""
        return {
            "wait": self.wait,
            "stopped_epoch": self.stopped_epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_weights": self._best_weights,
            "reason": self._reason,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned; if the run had been stopped, it ends at once."""
        self.wait, self.stopped_epoch = int(state["wait"]), int(state["stopped_epoch"])
        self.best, self.best_epoch = state["best"], int(state["best_epoch"])
        self._best_weights, self._reason = state["best_weights"], state["reason"]
        if self._reason is not None:
            self.model.stop_training = True

    def _start_anew(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self._best_weights: dict[str, Any] | None = None
        self._reason: str | None = None

    def _stop(self, epoch: int, reason: str) -> None:
        self.stopped_epoch = epoch
        self._reason = reason
        self.model.stop_training = True

    def _passed_limit(self, current: float) -> str:
        """Returns what ends the run at once, in words, or nothing."""
        if self.check_finite and not math.isfinite(current):
            return "which is not finite"
        is_max = self._monitor.direction(self.model.metrics) == "max"
        for limit, is_good in ((self.stopping_threshold, True), (self.divergence_threshold, False)):
            if limit is not None and (current > limit if is_max is is_good else current < limit):
                return f"past the {'stopping' if is_good else 'divergence'} threshold of {limit:.6g}"
        return ""

    def _is_better(self, value: float, reference: float | None) -> bool:
        return self._monitor.is_better(value, reference, self.model.metrics)

    def _remember_weights(self, epoch: int) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            self._best_weights = self.model.get_state(weights_only=True)
