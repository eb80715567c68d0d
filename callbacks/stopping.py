"""Ends training at a loss that is not finite, after some time, or at a value that is good enough."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from datetime import timedelta
from numbers import Real
from typing import Any

import jax
import numpy as np

from easyflax.callbacks.arguments import check_number
from easyflax.callbacks.message import say
from easyflax.callbacks.monitor import Monitor
from easyflax.errors import NonFiniteLossError, unknown_name_message
from easyflax.train.callback import Callback
from easyflax.train.plan import Plan

__all__ = ["StopAtValue", "TerminateOnNaN", "Timer"]

_UNITS = ("days", "hours", "minutes", "seconds")


class TerminateOnNaN(Callback):
    """Ends `fit` after the batch at which the loss becomes NaN or infinite.

    Without it, `fit` raises `NonFiniteLossError` when the logs are read, which is at the end of the epoch at
    the latest. With it, the loss is read after every batch, which then waits for the device.

    Args:
        raise_error: raise `NonFiniteLossError`, a RuntimeError, instead: `on_train_end` is then not called.

    Examples:
        >>> import numpy as np
        >>> from easyflax import layers, models
        >>> model = models.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((8, 2)), np.full(8, np.nan)
        >>> history = model.fit(x, y, 2, epochs=9, verbose=0, callbacks=[TerminateOnNaN()])
        Batch 0: the loss is nan, training ends
        >>> model.step
        1
    """

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error

    def configure(self, plan: Plan) -> Plan:
        return dataclasses.replace(plan, raises_nonfinite=False)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or np.isfinite(loss):
            return
        if self.raise_error:
            raise NonFiniteLossError(
                f"TerminateOnNaN: the loss is {loss} after batch {batch}, expected a finite number. Look for "
                "NaN and infinity in x and y (np.isfinite), lower the learning rate, or clip the gradients."
            )
        say(f"Batch {batch}: the loss is {loss}, training ends")
        self.model.stop_training = True


class Timer(Callback):
    """Ends `fit` when it has taken longer than it may.

    The time is that of training and validation, from the begin of `fit` on; a run that is resumed goes on
    counting. Of several processes the first one decides for all.

    Args:
        duration: a string `"DD:HH:MM:SS"`, a `datetime.timedelta`, a dict of its arguments, or seconds; None
            only measures.
        interval: look at the clock after every `"step"`, or `"epoch"`, which is then a whole one.
        verbose: whether it says when it stops.

    Raises:
        TypeError: the duration is none of these.
        ValueError: the duration is no such string or negative, or the interval is unknown.

    Examples:
        >>> Timer("00:08:30:00").duration
        30600.0
        >>> Timer({"minutes": 1.5}, interval="epoch").duration
        90.0
    """

    def __init__(
        self,
        duration: str | float | timedelta | Mapping[str, float] | None = None,
        interval: str = "step",
        verbose: bool = True,
    ):
        super().__init__()
        if interval not in ("step", "epoch"):
            raise ValueError(f"Timer: {unknown_name_message('interval', interval, ['step', 'epoch'])}")
        self.duration = None if duration is None else _seconds(duration)
        self.verbose = verbose
        self._before = 0.0  # seconds of the runs that this one goes on from
        self._began: float | None = None
        self._ended: float | None = None
        # Set here only: a hook of batches costs a little.
        if self.duration is not None and interval == "step":
            self.on_train_batch_end = self._after_batch
        elif self.duration is not None:
            self.on_epoch_end = self._after_epoch

    def next_batch_needed(self, batch: int) -> int | None:
        """Returns the batch itself in the last second; before, the clock may be looked at any time."""
        left = self.time_remaining()
        return batch if left is not None and left < 1 else None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._before, self._began, self._ended = 0.0, time.monotonic(), None

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._ended = time.monotonic()

    def on_exception(self, exception: BaseException) -> None:
        del exception
        self._ended = time.monotonic()

    def time_elapsed(self) -> float:
        """Returns the seconds that training has taken: by now, or in all if it is over."""
        if self._began is None:
            return self._before
        return self._before + (self._ended or time.monotonic()) - self._began

    def time_remaining(self) -> float | None:
        """Returns the seconds that are left, None where there is no duration."""
        return None if self.duration is None else max(self.duration - self.time_elapsed(), 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Returns the seconds so far."""
        return {"time_elapsed": self.time_elapsed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on counting from what `state_dict` returned; if the time is over, training ends at once."""
        self._before = float(state["time_elapsed"])
        if self.duration is not None:
            self._stop_if_over()

    def _after_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        del batch, logs
        self._stop_if_over()

    def _after_epoch(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        self._stop_if_over()

    def _stop_if_over(self) -> None:
        if not _as_first_process_says(self.time_remaining() == 0) or self.model.stop_training:
            return
        if self.verbose:
            say(f"Timer: {timedelta(seconds=round(self.time_elapsed()))} are over, training ends")
        self.model.stop_training = True


class StopAtValue(Callback):
    """Ends `fit` after the first epoch in which a logged value is as good as asked for.

    Args:
        monitor: the name in the logs.
        value: the value that ends the run, as does any better one.
        mode: `"min"` if less is better, `"max"` if more is, `"auto"` knows the direction of the loss and of
            the model's metrics.
        verbose: 1 says when it stops.

    Raises:
        TypeError: the value is no number.
        ValueError: the mode is unknown; in `fit`, the monitor is not in the logs, or its direction is
            unknown.

    Examples:
        >>> import numpy as np
        >>> from easyflax import layers, models
        >>> model = models.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> stop = StopAtValue("loss", 0.01)
        >>> history = model.fit(np.ones((64, 2)), np.ones(64), epochs=99, verbose=0, callbacks=[stop])
        >>> history.history["loss"][-1] <= 0.01 < history.history["loss"][-2]
        True
    """

    def __init__(self, monitor: str, value: float, mode: str = "auto", verbose: int = 0):
        super().__init__()
        check_number(type(self).__name__, value=value)
        self._monitor = Monitor(type(self).__name__, monitor, mode)
        self.value = value
        self.verbose = verbose
        self._has_stopped = False

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._has_stopped = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        current = self._monitor.value(logs or {}, validates=self.validates)
        if current is None:
            return
        is_max = self._monitor.direction(self.model.metrics) == "max"
        if current >= self.value if is_max else current <= self.value:
            if self.verbose:
                say(f"Epoch {epoch + 1}: {self._monitor.name} is {current:.6g}, training ends")
            self._has_stopped = self.model.stop_training = True

    def state_dict(self) -> dict[str, Any]:
        """Returns whether the value was reached."""
        return {"has_stopped": self._has_stopped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned; if the value was reached, training ends at once."""
        self._has_stopped = bool(state["has_stopped"])
        if self._has_stopped:
            self.model.stop_training = True


def _seconds(duration: Any) -> float:
    if isinstance(duration, Mapping):
        duration = timedelta(**duration)
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    elif isinstance(duration, str):
        parts = duration.split(":")
        if len(parts) != len(_UNITS) or not all(part.isdecimal() for part in parts):
            raise ValueError(
                f"Timer: duration is {duration!r}, expected 'DD:HH:MM:SS'. Pass '00:12:00:00' for "
                "twelve hours."
            )
        duration = timedelta(**dict(zip(_UNITS, map(int, parts)))).total_seconds()
    elif not isinstance(duration, Real) or isinstance(duration, bool):
        raise TypeError(
            f"Timer: duration is {duration!r}, expected a string, a timedelta, a dict, seconds or None. Pass "
            "for example '00:12:00:00' for twelve hours."
        )
    seconds = float(duration)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(
            f"Timer: duration is {seconds} seconds, expected a finite time of at least zero. Pass "
            "'00:12:00:00' for twelve hours."
        )
    return seconds


def _as_first_process_says(flag: bool) -> bool:
    """Returns the flag of process 0: all must stop after the same step, and their clocks differ."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils  # not needed by one process

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(flag)))
