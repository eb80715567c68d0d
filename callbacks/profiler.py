"""Profiles some steps of a training run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax

from easyflax.callbacks.paths import check_folder_writable
from easyflax.callbacks.step_trace import StepTrace, check_step_range
from easyflax.callbacks.update_freq import BatchCounter
from easyflax.train.callback import Callback

__all__ = ["Profiler"]


class Profiler(Callback):
    """Traces what the device and the host do in some steps of `fit`, with `jax.profiler`.

    TensorBoard's profile page (`pip install tensorboard-plugin-profile`), XProf, and for `.gz` files
    https://ui.perfetto.dev show the trace. On process 0 only.

    Args:
        log_dir: the folder that the trace is written to.
        steps: the step, or the pair of the first and the last one, counted from 1 in each `fit`. The first
            step compiles: better leave it out.
        create_perfetto_trace: writes `perfetto_trace.json.gz` as well.

    Raises:
        ValueError: `steps` is no such number or pair.
        OSError: in `fit`, the folder cannot be written; said before training.

    Examples:
        >>> profiler = Profiler("logs", steps=(10, 12))
        >>> profiler.first, profiler.last
        (10, 12)
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        steps: int | tuple[int, int] = (5, 10),
        *,
        create_perfetto_trace: bool = False,
    ):
        super().__init__()
        found = check_step_range(type(self).__name__, "steps", steps)
        if found is None:
            raise ValueError("Profiler: steps is 0, expected at least one step. Pass for example (10, 12).")
        self.log_dir = os.fspath(log_dir)
        self.first, self.last = found
        self.create_perfetto_trace = create_perfetto_trace
        self._batches = BatchCounter(every=0)
        self._trace: StepTrace | None = None

    def next_batch_needed(self, batch: int) -> int | None:
        """Returns the last batch before the profile, or of it."""
        return None if self._trace is None else self._batches.at_step(batch, self._trace.next_step_needed)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._batches.start()
        if jax.process_index() == 0:
            check_folder_writable(type(self).__name__, self.log_dir)
            self._trace = StepTrace(
                type(self).__name__,
                self.log_dir,
                self.first,
                self.last,
                create_perfetto_trace=self.create_perfetto_trace,
            )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        self._batches.start_epoch()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        del batch, logs
        if self._trace is not None:
            self._trace.before(self._batches.total + 1)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._batches.is_due(batch)
        if self._trace is not None:
            self._trace.after(self._batches.total, logs)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._stop()

    def on_exception(self, exception: BaseException) -> None:
        del exception
        self._stop()

    def _stop(self) -> None:
        if self._trace is not None:
            self._trace.stop()
        self._trace = None
