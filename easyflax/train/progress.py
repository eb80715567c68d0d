"""What one sees during fit, evaluate and predict: a bar where somebody watches, else plain lines.

Progress is drawn at most ten times a second, with the newest logs that have already arrived: it never makes
the loop wait for the device. `Progress` decides what is shown and when, a display how it looks:
`progress_bar.py`, `progress_rich.py`, `progress_notebook.py`, `progress_line.py`.
"""

# ruff: noqa: ARG002  (hooks have Keras's arguments, used or not)
from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import jax

from easyflax.train.callback import Callback
from easyflax.train.compiling import watching
from easyflax.train.logs import BatchLogs
from easyflax.train.progress_bar import BarDisplay, draws_widgets, import_tqdm
from easyflax.train.progress_line import LineDisplay
from easyflax.train.progress_notebook import NotebookBar, NotebookRich, is_notebook
from easyflax.train.progress_rich import RichDisplay
from easyflax.train.progress_text import Moment, duration
from easyflax.train.screen import Screen, shared_screen

_LONG_COMPILATION = 1.0  # seconds, from which on people ask themselves what it does
_SECONDS_BETWEEN_LINES = 10.0  # where a bar was asked for and nobody watches


class Display(Protocol):
    """How progress looks.

    Attributes:
        shares_a_line: whether it stands at the cursor, where others print too.
        seconds_between: from one drawing to the next, so that drawing costs next to nothing.
    """

    shares_a_line: bool
    seconds_between: float

    def draw(self, moment: Moment) -> None:
        """Shows how far it has come."""

    def finish(self, moment: Moment) -> None:
        """Shows that it is over."""

    def hide(self) -> None:
        """Takes the drawing away, until the next one."""

    def close(self) -> None:
        """Leaves the drawing, and begins a new line."""


class Progress(Callback):
    """Shows epochs, evaluations and predictions, as `params["verbose"]` says.

    Evaluations within a fit are not shown by themselves: their results are part of the epoch's line.
    """

    def __init__(self) -> None:
        super().__init__()
        self._display: Display | None = None
        self._screen: Screen | None = None
        self._in_fit = False
        self._known_totals: dict[str, int] = {}  # steps of an epoch and of its validation, once counted
        self._compiling: tuple[str, float] | None = None  # the step that is compiled now, and since when
        self._begin("")

    # -- hooks

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Notes that evaluations are now part of a fit."""
        self._in_fit = True

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Notes that the fit is over."""
        self._in_fit = False

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Begins an epoch."""
        self._begin(f"Epoch {epoch + 1}/{self.params.get('epochs', 1)}")
        self._draw()

    def next_batch_needed(self, batch: int) -> None:
        """Returns None: it looks at the clock whenever it is called."""
        return None  # noqa: RET501

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts a step, and draws when it is time."""
        now = time.perf_counter()
        if self._first_step_at is None:
            self._first_step_at = now
        if self._compiling is not None:
            self._end_compiling(now)
        self._newest = batch + 1, logs
        if now >= self._next_draw:
            self._draw()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Ends an epoch."""
        self._finish(logs)
        self._known_totals["epoch"] = self._newest[0]

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Begins an evaluation."""
        if not self._in_fit:
            self._begin("Evaluate")
            self._draw()
            return
        self._steps_ended_at = time.perf_counter()
        self._draw(note="validating")

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts a step of an evaluation."""
        if not self._in_fit:
            self.on_train_batch_end(batch, logs)
            return
        self._validated = batch + 1
        now = time.perf_counter()
        if self._compiling is not None:
            self._end_compiling(now)
        if now >= self._next_draw:
            total = self._known_totals.get("validation")
            self._draw(note=f"validating {batch + 1}" + (f"/{total}" if total else ""))

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Ends an evaluation."""
        if not self._in_fit:
            self._finish(logs)
        else:
            self._known_totals["validation"] = self._validated

    def on_predict_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Begins a prediction."""
        self._begin("Predict")
        self._draw()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts a step."""
        self.on_train_batch_end(batch, None)

    def on_predict_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Ends a prediction."""
        self._finish(None)

    # -- the screen

    @contextmanager
    def on_screen(self) -> Iterator[None]:
        """Lets what is printed in the block stand above the bar; closes the bar however the block ends."""
        self._display = display = self._new_display()
        try:
            with watching(self._begin_compiling):
                if not display.shares_a_line:
                    yield
                    return
                with shared_screen(display.hide) as self._screen:
                    yield
        finally:
            self._screen, self._display, self._in_fit, self._compiling = None, None, False, None
            display.close()

    # -- what is shown

    def _begin_compiling(self, step: str) -> None:
        """Shows that a step is being compiled; called while it is traced, so nothing is computed here."""
        self._compiling = step, time.perf_counter()
        if self._title:
            self._show()

    def _end_compiling(self, now: float) -> None:
        """Has the time that it took shown, where that was long."""
        assert self._compiling is not None  # asked by the caller, at every step
        (step, began), self._compiling = self._compiling, None
        if now - began >= _LONG_COMPILATION:
            self._compiled.append(f"compiled {step}, {duration(now - began)}")
        self._next_draw = now

    def _begin(self, title: str) -> None:
        self._compiled: list[str] = []  # what was compiled since, and how long it took
        self._title, self._began = title, time.perf_counter()
        self._done = self._validated = 0
        self._logs: Mapping[str, Any] = {}
        # Counts of steps with their logs: of the last step, and of one whose logs are awaited.
        self._newest: tuple[int, Any] = 0, {}
        self._awaited: tuple[int, Any] | None = None
        self._first_step_at: float | None = None
        self._steps_ended_at: float | None = None
        self._next_draw = 0.0

    def _arrive(self) -> None:
        """Takes over the newest of the two logs that has arrived, and awaits the newest if none has."""
        for count, logs in filter(None, (self._newest, self._awaited)):
            if not isinstance(logs, BatchLogs) or logs.is_ready():
                self._done, self._logs, self._awaited = count, dict(logs or {}), None
                return
        self._awaited = self._awaited or self._newest

    def _draw(self, note: str = "") -> None:
        self._arrive()
        self._show(note)

    def _show(self, note: str = "") -> None:
        display = self._shown_by()
        self._next_draw = time.perf_counter() + display.seconds_between
        if self._screen is None or self._screen.is_at_line_start:
            display.draw(self._moment(note))

    def _finish(self, logs: Mapping[str, Any] | None) -> None:
        self._steps_ended_at = self._steps_ended_at or time.perf_counter()
        self._done, self._logs = self._newest[0], logs or {}
        if self._screen is not None and not self._screen.is_at_line_start:
            print()
        self._shown_by().finish(self._moment())

    def _moment(self, note: str = "") -> Moment:
        seconds = time.perf_counter() - self._began
        if self._compiling is not None:
            note = f"compiling {self._compiling[0]}"
        note = note or "; ".join(self._compiled)
        return Moment(self._title, self._done, self._total(), seconds, self._pace(), self._logs, note)

    def _pace(self) -> float | None:
        """Returns the seconds of a step, without the first one, which compiles."""
        if not self._done or self._first_step_at is None:
            return None
        until = self._steps_ended_at or time.perf_counter()
        return until - self._began if self._done == 1 else (until - self._first_step_at) / (self._done - 1)

    def _total(self) -> int | None:
        total = self.params.get("steps")
        if total is None and self._title.startswith("Epoch"):
            total = self._known_totals.get("epoch")
        return None if total is not None and self._newest[0] > total else total

    def _shown_by(self) -> Display:
        if self._display is None:  # in a loop of the user's own
            self._display = self._new_display()
        return self._display

    def _new_display(self) -> Display:
        """Returns what shows it on the present `sys.stdout`."""
        return make_display(self.params.get("verbose", 1))


class NoDisplay:
    """Shows nothing, as in every process but the first."""

    shares_a_line = False
    seconds_between = math.inf

    def draw(self, moment: Moment) -> None:
        """Does nothing."""

    def finish(self, moment: Moment) -> None:
        """Does nothing."""

    def hide(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def make_display(verbose: Any) -> Display:
    """Returns what shows progress on the present `sys.stdout`, in process 0 of several.

    Where nobody watches there are lines, and if a bar was asked for, one every ten seconds as well.

    Args:
        verbose: as `check_verbose` accepts it, but not 0.
    """
    if jax.process_index() != 0:
        return NoDisplay()
    notebook = is_notebook()
    watched = notebook or _is_terminal()
    if verbose == 2 or (verbose == "auto" and not watched):
        return LineDisplay(sys.stdout)
    if not watched:
        return LineDisplay(sys.stdout, _SECONDS_BETWEEN_LINES)
    if verbose == "rich":
        return NotebookRich() if notebook else RichDisplay(sys.stdout)
    tqdm = import_tqdm()
    if not notebook:
        return BarDisplay(tqdm, sys.stdout)
    return NotebookBar(tqdm) if draws_widgets(tqdm) else NotebookRich()


def check_verbose(verbose: Any) -> Any:
    """Returns `verbose`, checked.

    Raises:
        ValueError: it is none of `"auto"`, `"rich"`, 0, 1, 2, True and False.
    """
    if verbose not in ("auto", "rich", 0, 1, 2):
        raise ValueError(
            f"verbose is {verbose!r}, expected 'auto', 0 (silent), 1 (bar) or 2 (a line an epoch), or 'rich' "
            f"(a coloured bar). Pass one of these."
        )
    return verbose


def _is_terminal() -> bool:
    """Says whether the last line on the screen can be changed, as on a terminal and in PyCharm."""
    if "PYCHARM_HOSTED" in os.environ:
        return True
    return hasattr(sys.stdout, "isatty") and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
