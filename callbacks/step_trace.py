"""A profile of some steps of a training run, which JAX's own profiler writes."""

from __future__ import annotations

import os
import warnings
from typing import Any

import jax

__all__ = ["StepTrace", "check_step_range"]


def check_step_range(owner: str, argument: str, value: Any) -> tuple[int, int] | None:
    """Returns the first and the last step, counted from 1; None for no step at all.

    Args:
        owner: the callback's name, for messages.
        argument: the argument's name, likewise.
        value: a number, a pair of numbers, one of the two as text such as "10,20", or 0.

    Raises:
        ValueError: it is none of these.

    Examples:
        >>> [check_step_range("Profiler", "steps", value) for value in (0, 3, (10, 20), "10,20")]
        [None, (3, 3), (10, 20), (10, 20)]
    """
    parts = value.split(",") if isinstance(value, str) else value
    parts = list(parts) if isinstance(parts, list | tuple) else [parts]
    try:
        numbers = [int(part) for part in parts if not isinstance(part, bool) and int(part) == float(part)]
    except (TypeError, ValueError):
        numbers = []
    if numbers == [0]:
        return None
    if len(numbers) == len(parts) in (1, 2) and 1 <= numbers[0] <= numbers[-1]:
        return numbers[0], numbers[-1]
    raise ValueError(
        f"{owner}: {argument} is {value!r}, expected the number of a step, counted from 1, or a pair of the "
        f"first and the last. Pass for example {argument}=5 or {argument}=(10, 20)."
    )


class StepTrace:
    """Traces the steps from `first` to `last`; `tensorboard --logdir` shows what it writes.

    Another profile that is running already is warned of, and left alone.

    Args:
        owner: the callback's name, for messages.
        folder: where the trace goes.
        first: the first step, counted from 1.
        last: the last one.
        **options: of `jax.profiler.start_trace`.
    """

    def __init__(self, owner: str, folder: str | os.PathLike[str], first: int, last: int, **options: Any):
        self._owner = owner
        self._folder = os.fspath(folder)
        self._first, self._last = first, last
        self._options = options
        self._is_running = False
        self._is_done = False
        self._step: Any = None

    def next_step_needed(self, step: int) -> int | None:
        """Returns after which step to be told next, if this one comes next, counted from 1; None if never."""
        if self._is_done or step > self._last:
            return None
        return self._first - 1 if step < self._first else self._last

    def before(self, step: int) -> None:
        """Tells of a step, or several in one execution, that begins."""
        if not self._is_running and not self._is_done and self._first <= step <= self._last:
            self._start()
        if self._is_running:
            self._step = jax.profiler.StepTraceAnnotation("train", step_num=step)
            self._step.__enter__()

    def after(self, step: int, logs: Any) -> None:
        """Tells of a step that was dispatched; what it computes is waited for where the trace ends."""
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None
        if self._is_running and step >= self._last:
            dict(logs or {})  # reading them waits
            self.stop()

    def stop(self) -> None:
        """Ends the trace, if it runs."""
        if self._is_running:
            self._is_running, self._is_done = False, True
            jax.profiler.stop_trace()

    def _start(self) -> None:
        try:
            jax.profiler.start_trace(self._folder, **self._options)
        except RuntimeError as error:
            self._is_done = True
            warnings.warn(f"{self._owner}: there is no profile ({error}).", stacklevel=2)
            return
        self._is_running = True
