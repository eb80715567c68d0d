"""A fit of two epochs that times callbacks and data, see `profiling.py`."""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import jax

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

_WAITING, _FREE = 0, 1  # the two epochs
_WINDOWS, _FEWEST = 4, 3  # of an epoch, and steps of each


class TimedCallbacks(CallbackList):
    """A list of callbacks that notes how long the hooks of each take, in the first of two epochs.

    Args:
        callbacks: as for `CallbackList`.
        model: likewise.
    """

    def __init__(self, callbacks: Callbacks, model: Any):
        super().__init__(callbacks, model=model)
        self.steps = 0
        self._seconds: dict[tuple[int, bool], float] = defaultdict(float)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Waits for the step first where hooks are timed: what they take then is theirs."""
        if self._epoch == _WAITING and isinstance(logs, BatchLogs):
            self.steps = batch + 1
            logs.wait()
        super().on_train_batch_end(batch, logs)

    def times(self) -> dict[str, CallbackTime]:
        """Returns what each callback takes, by the name of its class, numbered where there are several."""
        found: dict[str, CallbackTime] = {}
        for place, callback in enumerate(self.callbacks):
            name, number = type(callback).__name__, 1
            while (full := name if number == 1 else f"{name} {number}") in found:
                number += 1
            a_step = self._seconds[place, True] / max(self.steps, 1)
            found[full] = CallbackTime(a_step, self._seconds[place, False])
        return found

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
                self._seconds[key] += time.perf_counter() - begin

        return timed


class _RehearsedSource(WatchedSource):
    """Gives one batch over and over in the first epoch, and in the second those of the data that are like it.

    Others, such as the last rows of a pass, would have to be compiled for.

    Args:
        inner: the data.
        batch: of the first epoch.
        steps: of an epoch.
        together: steps of a dispatch.
        wait: waits for all steps so far.
    """

    def __init__(self, inner: Source, batch: Batch, steps: int, together: int, wait: Callable[[], Any]):
        super().__init__(inner, lambda *_: None)
        self._batch = batch
        self._together = together
        self._steps = steps
        self._wait = wait
        self.seconds: float | None = None

    @property
    def num_batches(self) -> int | None:
        return None  # so that nobody is warned where the data end before

    @property
    def is_exhausted(self) -> bool:
        return False

    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        del steps
        return self._same() if number == _WAITING else self._timed(number)

    def _same(self) -> Generator[Batch, None, None]:
        for _ in range(self._steps):
            yield self._batch

    def _timed(self, number: int) -> Generator[Batch, None, None]:
        dispatches = max(1, self._steps // _WINDOWS // self._together)
        windows = _Windows(self._wait, max(dispatches * self._together, _FEWEST))
        with closing(self.inner.epoch(number, self._steps)) as batches:
            for batch in itertools.islice(batches, self._steps):
                if _shapes(batch) == _shapes(self._batch):
                    yield batch
                    windows.add()
            self.seconds = windows.seconds()


class _Windows:
    """Times some steps together, over and over, so that what disturbs a few of them does not count.

    Args:
        wait: waits for all steps so far.
        steps: of a window.
    """

    def __init__(self, wait: Callable[[], Any], steps: int):
        self._wait = wait
        self._steps = steps
        self._done = 0
        self._times: list[float] = []
        self._began = time.perf_counter()

    def add(self) -> None:
        """Notes that a step was done; it may still be running."""
        self._done += 1
        if self._done == self._steps:
            self._end()

    def seconds(self) -> float | None:
        """Returns what a step takes; None if there was none."""
        if not self._times and self._done:
            self._end()
        return median(self._times) if self._times else None

    def _end(self) -> None:
        self._wait()
        now = time.perf_counter()
        self._times.append((now - self._began) / self._done)
        self._began, self._done = now, 0


def _shapes(batch: Batch) -> Any:
    return [leaf.shape for leaf in jax.tree.leaves(batch)]


@dataclass(frozen=True)
class Rehearsal:
    """A short fit, with the callbacks and the data."""

    model: Any
    session: Session
    plan: Plan
    hooks: TimedCallbacks
    interrupts: Interrupts

    def run(self, batch: Batch, steps: int) -> float | None:
        """Returns the seconds of a step in the epoch that waits for nothing; None if no data were left.

        Args:
            batch: of the steps of the first epoch, which there is where there are callbacks.
            steps: of an epoch.
        """
        together = self.session.steps.steps_per_execution
        steps = math.ceil(steps / together) * together
        first = _WAITING if self.hooks.callbacks else _FREE
        last = _WAITING if self.plan.source.is_exhausted else _FREE
        source = _RehearsedSource(self.plan.source, batch, steps, together, self._wait)
        plan = replace(
            self.plan,
            source=source,
            initial_epoch=first,
            epochs=last + 1,
            steps_per_epoch=None,
            validation=None,
            raises_nonfinite=False,
        )
        self.hooks.set_params({"verbose": 0, "epochs": plan.epochs, "steps": steps})
        if first <= last:
            with self.hooks.on_screen(), self.hooks.told_of_exceptions():
                self._fit(plan)
        return source.seconds

    def _fit(self, plan: Plan) -> None:
        model, session = self.model, self.session
        session.course = Course(
            session, plan, self.hooks, get_state=model._get_state, set_state=model.set_state
        )
        self.hooks.on_train_begin()
        logs = run_epochs(
            session,
            plan,
            self.hooks,
            validation_steps=None,
            should_stop=lambda: model.stop_training,
            interrupts=self.interrupts,
        )
        self.hooks.on_train_end(logs)

    def _wait(self) -> None:
        jax.block_until_ready(self.session.course.logs)
