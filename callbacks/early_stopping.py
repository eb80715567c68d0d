"""Ends training when a logged value has stopped improving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easyflax.callbacks.message import say
from easyflax.callbacks.monitor import Monitor
from easyflax.train.callback import Callback

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Stops `fit` after `patience` epochs without improvement; arguments and decisions are Keras's.

    The first epoch of all never stops the run. With a `baseline`, only an epoch that beats both it and the
    best so far starts the patience anew.

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

    Attributes:
        best: the best value so far.
        best_epoch: its epoch, counted from 0.
        stopped_epoch: the epoch that ended the run, 0 if none did.
        wait: epochs since the last improvement.

    Raises:
        ValueError: the mode is unknown; in `fit`, the monitor is not in the logs, or its direction is
            unknown.
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
    ):
        super().__init__()
        self._monitor = Monitor(type(self).__name__, monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._start_anew()

    def _start_anew(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self._best_weights: dict[str, Any] | None = None

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
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        if self.stopped_epoch and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self._best_weights is None:
            return
        if self.verbose:
            say(f"Restoring the weights of epoch {self.best_epoch + 1}, the best one")
        self.model.set_state(self._best_weights)
        self._best_weights = None  # gives their memory back

    def _is_better(self, value: float, reference: float | None) -> bool:
        return self._monitor.is_better(value, reference, self.model.metrics)

    def _remember_weights(self, epoch: int) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            self._best_weights = self.model.get_state(weights_only=True)
