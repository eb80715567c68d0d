"""What one sees during fit, evaluate and predict: a tqdm bar where somebody watches, else a plain line.

The bar is drawn at most ten times a second, and shows the newest logs that have already arrived: it never
makes the loop wait for the device.
"""

# ruff: noqa: ARG002  (hooks have Keras's arguments, used or not)
from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from easyflax.train.callback import Callback
from easyflax.train.logs import BatchLogs

_SECONDS_BETWEEN_DRAWS = 0.1
_RUNNING = "{desc} {n_fmt}/{total_fmt} |{bar:16}| {elapsed}<{remaining} {rate_fmt}{postfix}"
_FINISHED = "{desc} {n_fmt}/{total_fmt} {elapsed_s:.1f}s{postfix}"


class Progress(Callback):
    """Draws progress; the base class shows nothing and keeps what both kinds need."""

    def __init__(self) -> None:
        super().__init__()
        self._in_fit = False

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Notes that evaluations are now part of a fit and are not shown by themselves."""
        self._in_fit = True

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts an epoch."""
        self._start(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Ends an epoch."""
        self._finish(logs or {})

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Starts an evaluation."""
        if not self._in_fit:
            self._start("Evaluate")

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Ends an evaluation."""
        if not self._in_fit:
            self._finish(logs or {})

    def on_predict_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Starts a prediction."""
        self._start("Predict")

    def on_predict_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Ends a prediction."""
        self._finish({})

    def close(self) -> None:
        """Ends whatever is being shown, also after an exception."""

    def _start(self, title: str) -> None:
        raise NotImplementedError

    def _finish(self, logs: Mapping[str, Any]) -> None:
        raise NotImplementedError


class ProgressLine(Progress):
    """One plain line at the end of each epoch, evaluation or prediction."""

    def _start(self, title: str) -> None:
        self._title, self._began = title, time.perf_counter()

    def _finish(self, logs: Mapping[str, Any]) -> None:
        seconds = time.perf_counter() - self._began
        print(f"{self._title} - {seconds:.1f}s{_spelled(logs, ' - ')}", flush=True)


class ProgressBar(Progress):
    """A tqdm bar for each epoch, evaluation or prediction."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._next_draw = 0.0
        self._done = 0
        self._arriving: BatchLogs | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts a step, and draws when it is time."""
        self._done = batch + 1
        if time.perf_counter() >= self._next_draw:
            self._draw(logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts a step of an evaluation that stands alone."""
        if not self._in_fit:
            self.on_train_batch_end(batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts a step."""
        self.on_train_batch_end(batch, None)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _start(self, title: str) -> None:
        from tqdm.auto import tqdm  # slow to import, and not needed by silent runs

        self._bar = tqdm(
            desc=title,
            total=self.params["steps"],
            unit="step",
            file=sys.stdout,
            dynamic_ncols=True,
            bar_format=_RUNNING,
            mininterval=0,
        )
        self._next_draw, self._done, self._arriving = 0.0, 0, None

    def _draw(self, logs: BatchLogs | None) -> None:
        self._next_draw = time.perf_counter() + _SECONDS_BETWEEN_DRAWS
        if self._arriving is not None and self._arriving.is_ready():
            self._bar.set_postfix_str(_spelled(self._arriving, "", ", "), refresh=False)
            self._arriving = None
        if self._arriving is None:
            self._arriving = logs
        self._bar.update(self._done - self._bar.n)

    def _finish(self, logs: Mapping[str, Any]) -> None:
        self._bar.set_postfix_str(_spelled(logs, "", ", "), refresh=False)
        self._bar.n = self._done
        self._bar.bar_format = _FINISHED
        self._bar.ncols, self._bar.dynamic_ncols = None, False  # a line that stays may wrap, and shows all
        self.close()


def make_progress(verbose: Any) -> Progress | None:
    """Returns what shows progress for `verbose`: None for 0, a bar for 1, plain lines for 2.

    `"auto"` is a bar where somebody watches, on a terminal or in a notebook, and plain lines elsewhere.

    Raises:
        ValueError: `verbose` is none of these.
    """
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(
            f"verbose is {verbose!r}, expected 'auto', 0 (silent), 1 (bar) or 2 (a line an epoch). Pass one "
            f"of these."
        )
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2
    if verbose == 0:
        return None
    return ProgressBar() if verbose == 1 else ProgressLine()


def _spelled(logs: Mapping[str, Any], lead: str, between: str = " - ") -> str:
    """Returns the logs as text, the losses before the other values of their kind."""
    names = sorted(logs, key=lambda name: (name.startswith("val_"), not name.endswith("loss")))
    words = [f"{name}: {logs[name]:.4g}" for name in names if isinstance(logs[name], float)]
    return lead + between.join(words) if words else ""
