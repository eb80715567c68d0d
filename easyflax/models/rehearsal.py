"""A short fit that times callbacks and data, see `profiling.py`."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from easyflax.data import Batch, Source, WatchedSource
from easyflax.models.step_profile import CallbackTime
from easyflax.train.callback_list import CallbackList, Callbacks
from easyflax.train.course import Course
from easyflax.train.interrupts import Interrupts
from easyflax.train.logs import BatchLogs
from easyflax.train.loop import run_epochs
from easyflax.train.plan import Plan
from easyflax.train.session import Session

__all__ = ["Rehearsal", "TimedCallbacks"]

_WAITING = 0  # the epoch in which each step is waited for before the hooks are called
_WINDOWS = 4  # of an epoch


@dataclass(frozen=True)
class Rehearsal:
    """A short fit, with the callbacks and the data.

    Attributes:
        model: is trained.
        session: does the steps; to be restored afterwards.
        plan: of the fit, as the callbacks left it.
        hooks: whose times are noted.
        interrupts: asked after each step.
    """

    model: Any
    session: Session
    plan: Plan
    hooks: TimedCallbacks
    interrupts: Interrupts

    def run(self, batch: Batch, steps: int) -> float | None:
        """Returns the seconds of a step in epochs that wait for nothing; None if no data were left.

        Args:
            batch: of the steps of the first epoch, which there is where there are callbacks.
            steps: of that epoch, and of all others together.
        """
        self.hooks.set_params({"verbose": 0, "epochs": 2, "steps": steps})
        with self.hooks.on_screen(), self.hooks.told_of_exceptions():
            self.hooks.on_train_begin()
            logs: dict[str, float] = {}
            if self.hooks.callbacks:
                logs = self._train(_Repeated(self.plan.source, batch), _WAITING, 1, steps)
            if not self.plan.source.is_exhausted:
                logs = self._train_on_data(steps)
            self.hooks.on_train_end(logs)
        return self.hooks.seconds

    def _train_on_data(self, steps: int) -> dict[str, float]:
        """Trains for so many steps; before, where passes are short, for two, to compile for their ends."""
        a_pass = self.plan.source.num_batches or steps
        before = 2 * a_pass if a_pass < steps else 0
        self.hooks.before, self.hooks.window = before, max(1, steps // _WINDOWS)
        passes = math.ceil((before + steps) / a_pass)
        return self._train(self.plan.source, _WAITING + 1, passes, before + steps)

    def _train(self, source: Source, epoch: int, epochs: int, steps: int) -> dict[str, float]:
        model, hooks = self.model, self.hooks
        plan = replace(
            self.plan,
            source=source,
            initial_epoch=epoch,
            epochs=epoch + epochs,
            steps_per_epoch=None,
            validation=None,
            raises_nonfinite=False,
        )
        self.session.course = Course(
            self.session, plan, hooks, get_state=model._get_state, set_state=model.set_state
        )
        hooks.done = 0
        return run_epochs(
            self.session,
            plan,
            hooks,
            validation_steps=None,
            should_stop=lambda: hooks.done >= steps,  # and not when a callback finds that enough
            interrupts=self.interrupts,
        )


class TimedCallbacks(CallbackList):
    """A list of callbacks that notes how long their hooks take, and how long the steps.

    In the first epoch each step is waited for before the hooks are called, so that what they take is theirs.
    In the others some steps are timed together, over and over.

    Args:
        callbacks: as for `CallbackList`.
        model: likewise.

    Attributes:
        done: steps of the run.
        before: steps of it that are not timed.
        window: steps that are timed together.
    """

    def __init__(self, callbacks: Callbacks, model: Any):
        super().__init__(callbacks, model=model)
        self.done, self.before, self.window = 0, 0, 1
        self._hook_seconds: dict[tuple[int, bool], float] = defaultdict(float)
        self._waited = 0  # steps of the first epoch
        self._in_window = 0
        self._last = -1  # batch of the epoch
        self._began = 0.0
        self._times: list[float] = []
        self._ended = 0.0
        self._between: list[float] = []  # from the last step of an epoch to the next epoch, by step

    @property
    def epochs_seconds(self) -> float:
        """What it takes to end an epoch and begin another, shared by its steps; 0 if there was only one."""
        return median(self._between) if self._between else 0.0

    @property
    def seconds(self) -> float | None:
        """What a step takes where nothing is waited for; None if there was none."""
        return median(self._times) if self._times else None

    def times(self) -> dict[str, CallbackTime]:
        """Returns what each callback takes, by the name of its class, numbered where there are several."""
        found: dict[str, CallbackTime] = {}
        for place, callback in enumerate(self.callbacks):
            name, number = type(callback).__name__, 1
            while (full := name if number == 1 else f"{name} {number}") in found:
                number += 1
            a_step = self._hook_seconds[place, True] / max(self._waited, 1)
            found[full] = CallbackTime(a_step, self._hook_seconds[place, False])
        return found

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins a window before the first step; others go on from one epoch to the next, as in `fit`."""
        super().on_epoch_begin(epoch, logs)
        if self.done > self.before:
            self._between.append((time.perf_counter() - self._ended) / (self._last + 1))
        self._last = -1
        if not self.done:
            self._in_window, self._began = 0, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Waits for the step, in the first epoch before the hooks, in the others at the end of a window."""
        steps, self._last = batch - self._last, batch
        self.done += steps
        if self._epoch == _WAITING:
            self._waited += steps
            _wait(logs)
            super().on_train_batch_end(batch, logs)
            return
        super().on_train_batch_end(batch, logs)
        self._ended = time.perf_counter()
        self._in_window += steps
        if self._in_window >= self.window:
            _wait(logs)
            now = time.perf_counter()
            if self.done - self._in_window >= self.before:
                self._times.append((now - self._began) / self._in_window)
            self._in_window, self._began = 0, now

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends a window before the hooks, if there was none yet; the logs have been waited for."""
        if self._in_window and not self._times and epoch != _WAITING:
            self._times.append((time.perf_counter() - self._began) / self._in_window)
        super().on_epoch_end(epoch, logs)

    def _hooks(self, name: str) -> tuple[Callable[..., None], ...]:
        if name not in self._heard and ("_train_batch_" in name or "_epoch_" in name):
            hooks = super()._hooks(name)
            places = [self.callbacks.index(callback) for callback in self._overriding(name)]
            self._heard[name] = tuple(
                self._timed(hook, (place, "_batch_" in name))
                for hook, place in zip(hooks, places, strict=True)
            )
        return super()._hooks(name)

    def _timed(self, hook: Callable[..., None], key: tuple[int, bool]) -> Callable[..., None]:
        def timed(*args: Any) -> None:
            begin = time.perf_counter()
            hook(*args)
            if self._epoch == _WAITING:
                self._hook_seconds[key] += time.perf_counter() - begin

        return timed


class _Repeated(WatchedSource):
    """Gives one batch over and over, without end.

    Args:
        inner: the data that it is of.
        batch: of it.
    """

    def __init__(self, inner: Source, batch: Batch):
        super().__init__(inner, lambda *_: None)
        self._batch = batch

    @property
    def is_exhausted(self) -> bool:
        return False

    def first_batch(self) -> Batch:
        return self._batch

    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        del number, steps
        while True:
            yield self._batch


def _wait(logs: Any) -> None:
    if isinstance(logs, BatchLogs):
        logs.wait()
