"""Learning rates that are set or logged from epoch to epoch, where they live: in the optimizer's state."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from easyflax.callbacks.arguments import check_number
from easyflax.callbacks.message import say
from easyflax.callbacks.monitor import Monitor
from easyflax.callbacks.rates import (
    check_rates_can_be_read,
    check_rates_can_be_set,
    log_rates,
    rate_of,
    rated_optimizers,
)
from easyflax.errors import unknown_name_message
from easyflax.train.callback import Callback

__all__ = ["LearningRateMonitor", "LearningRateScheduler", "ReduceLROnPlateau"]


class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of each epoch, and logs it at the end as `learning_rate`.

    Of a `MultiOptimizer`, it sets that of each optimizer, and logs them as `learning_rate_` and its name.

    Args:
        schedule: `(epoch)` or `(epoch, learning_rate)`, the number of the epoch from 0 and the present rate;
            returns the rate of the epoch, a number.
        verbose: 1 says which.

    Raises:
        TypeError: `schedule` is no function; in `fit`, the optimizer follows a schedule of its own.
        ValueError: in `fit`, it returns something else than a finite number of at least zero, or the
            optimizer keeps no learning rate in its state.

    Examples:
        >>> import numpy as np
        >>> from easyflax import layers, models
        >>> model = models.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> halve = LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else 0.5)
        >>> history = model.fit(np.ones((8, 2)), np.ones(8), epochs=3, verbose=0, callbacks=[halve])
        >>> history.history["learning_rate"]
        [0.5, 0.25, 0.125]
    """

    def __init__(self, schedule: Callable[..., Any], verbose: int = 0):
        super().__init__()
        if not callable(schedule):
            raise TypeError(
                f"LearningRateScheduler: schedule is {schedule!r}, expected a function of the epoch. Pass "
                "for example lambda epoch, learning_rate: 0.9 * learning_rate."
            )
        self.schedule = schedule
        self.verbose = verbose
        self._takes_the_rate = _takes_two(schedule)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        check_rates_can_be_set(self)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        for name, optimizer in rated_optimizers(self.model):
            given = (epoch, rate_of(optimizer)) if self._takes_the_rate else (epoch,)
            rate = optimizer.learning_rate = _checked(self.schedule(*given), epoch)
            if self.verbose:
                say(f"Epoch {epoch + 1}: LearningRateScheduler sets {name} to {rate}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del epoch
        log_rates(self.model, logs)


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate when a logged value has stopped improving, and logs it.

    Arguments and decisions are Keras's. An epoch's log `learning_rate` is the rate that it was trained with;
    of a `MultiOptimizer`, each optimizer's is reduced, and logged as `learning_rate_` and its name.

    Args:
        monitor: the name in the logs to go by.
        factor: what the rate is multiplied by, less than 1.
        patience: epochs without improvement after which it is reduced.
        verbose: 1 says when and to what.
        mode: `"min"`, `"max"`, or `"auto"`, which knows the direction of the loss and of the model's metrics.
        min_delta: the least change that counts as an improvement.
        cooldown: epochs after a reduction that do not count as ones without improvement.
        min_lr: the rate below which it is not reduced.

    Attributes:
        best: the best value so far.
        wait: epochs since the last improvement.
        cooldown_counter: epochs left of the cooldown.

    Raises:
        TypeError: a number is of another type; in `fit`, the optimizer follows a schedule.
        ValueError: the mode is unknown, or a number is out of bounds; in `fit`, the monitor is not in the
            logs, its direction is unknown, or the optimizer keeps no learning rate in its state.

    Examples:
        >>> import numpy as np
        >>> from easyflax import layers, models
        >>> model = models.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> reduce = ReduceLROnPlateau("loss", patience=2, min_delta=10.0)  # more than the loss can fall
        >>> history = model.fit(np.ones((8, 2)), np.ones(8), epochs=6, verbose=0, callbacks=[reduce])
        >>> [round(rate, 6) for rate in history.history["learning_rate"]]
        [0.01, 0.01, 0.01, 0.001, 0.001, 0.0001]
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__()
        owner = type(self).__name__
        check_number(owner, 0, 1, factor=factor)
        check_number(owner, 0, patience=patience, cooldown=cooldown, min_lr=min_lr)
        check_number(owner, min_delta=min_delta)
        self._monitor = Monitor(owner, monitor, mode, min_delta)
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._start_anew()

    @property
    def monitor(self) -> str:
        """The name in the logs."""
        return self._monitor.name

    def in_cooldown(self) -> bool:
        """Says whether epochs without improvement do not count at present."""
        return self.cooldown_counter > 0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        check_rates_can_be_set(self)
        self._start_anew()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        log_rates(self.model, logs)
        current = self._monitor.value(logs, validates=self.validates)
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._monitor.is_better(current, self.best, self.model.metrics):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Returns the best value so far and the counts."""
        return {"best": self.best, "wait": self.wait, "cooldown_counter": self.cooldown_counter}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self.best, self.wait = state["best"], state["wait"]
        self.cooldown_counter = state["cooldown_counter"]

    def _start_anew(self) -> None:
        self.best: float | None = None
        self.wait = 0
        self.cooldown_counter = 0

    def _reduce(self, epoch: int) -> None:
        for name, optimizer in rated_optimizers(self.model):
            rate = rate_of(optimizer)
            if rate <= np.float32(self.min_lr):  # the rate is a float32, too
                continue
            new = optimizer.learning_rate = max(rate * self.factor, self.min_lr)
            self.wait = 0
            self.cooldown_counter = self.cooldown
            if self.verbose:
                say(f"Epoch {epoch + 1}: ReduceLROnPlateau reduces {name} to {new}")


class LearningRateMonitor(Callback):
    """Adds `learning_rate` to the logs, for History, the progress and loggers that come after it.

    It is what `model.optimizer.learning_rate` says after the epoch or batch: the rate that was set last, or,
    of an optimizer with a schedule of its own, that of the step to come.

    Args:
        logging_interval: `"epoch"`; or `"step"`, which adds it to the logs of batches, too, and waits for the
            device after each.

    Raises:
        ValueError: the interval is unknown; in `fit`, the optimizer keeps no learning rate in its state.

    Examples:
        >>> import numpy as np
        >>> from easyflax import layers, models, optimizers
        >>> model = models.Sequential([layers.Dense(1)])
        >>> model.compile(optimizers.SGD(lambda step: 0.5**step), "mse")
        >>> monitor = LearningRateMonitor()
        >>> history = model.fit(np.ones((8, 2)), np.ones(8), 4, epochs=3, verbose=0, callbacks=[monitor])
        >>> history.history["learning_rate"]
        [0.25, 0.0625, 0.015625]
    """

    def __init__(self, logging_interval: str = "epoch"):
        super().__init__()
        known = ["epoch", "step"]
        if logging_interval not in known:
            message = unknown_name_message("logging_interval", logging_interval, known)
            raise ValueError(f"LearningRateMonitor: {message}")
        if logging_interval == "step":
            self.on_train_batch_end = self._after_batch  # only here: a hook of batches costs

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        check_rates_can_be_read(self)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del epoch
        log_rates(self.model, logs)

    def _after_batch(self, batch: int, logs: Any = None) -> None:
        del batch
        log_rates(self.model, logs)


def _checked(returned: Any, epoch: int) -> float:
    """Returns what a schedule of epochs returned, as a float."""
    try:
        rate = float(returned + 0)  # text is no number
    except (TypeError, ValueError):
        rate = -1.0
    if not math.isfinite(rate) or rate < 0:
        raise ValueError(
            f"LearningRateScheduler: the schedule returned {returned!r} for epoch {epoch}, expected a finite "
            "number of at least zero. Return the learning rate of the epoch, such as 0.001."
        )
    return rate


def _takes_two(schedule: Callable[..., Any]) -> bool:
    try:
        inspect.signature(schedule).bind(0, 0.1)
    except TypeError:
        return False
    except ValueError:  # builtins tell nothing
        return True
    return True
