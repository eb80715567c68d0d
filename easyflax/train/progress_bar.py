"""Progress as a bar of tqdm: one line of a terminal that changes."""

from __future__ import annotations

import shutil
import warnings
from typing import Any, TextIO

from easyflax.train.progress_text import Moment

_WIDEST_BAR, _NARROWEST_BAR = 20, 5


def import_tqdm() -> Any:
    """Returns the class for this process: of widgets in a notebook that has them, else of lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a notebook without ipywidgets
        from tqdm.auto import tqdm  # slow to import, and not needed by silent runs
    return tqdm


def draws_widgets(tqdm: Any) -> bool:
    """Says whether the class draws widgets."""
    return any("notebook" in base.__module__ for base in tqdm.__mro__)


class BarDisplay:
    """Draws a bar for each epoch, evaluation or prediction; the line that stays has none.

    Args:
        tqdm: the class.
        file: a terminal, or what can change its last line as a terminal can.
    """

    shares_a_line = True
    seconds_between = 0.1

    def __init__(self, tqdm: Any, file: TextIO):
        self._tqdm = tqdm
        self._file = file
        self._bar: Any = None
        self._visible = False

    def draw(self, moment: Moment) -> None:
        """Draws the bar."""
        bar_format = _line(moment)
        if self._bar is None:
            self._make(moment, bar_format)
        else:
            self._bar.n, self._bar.bar_format = moment.done, bar_format
            self._bar.refresh()
        self._visible = True

    def finish(self, moment: Moment) -> None:
        """Replaces the bar by the line that stays."""
        last = as_format(moment.last_line(shutil.get_terminal_size().columns - 1))
        bar = self._make(moment, last) if self._bar is None else self._bar
        bar.ncols, bar.dynamic_ncols = None, False  # the lines are broken already
        bar.n, bar.bar_format = moment.done, last
        self.hide()  # tqdm itself only overwrites what the last of several lines covers
        self.close()

    def hide(self) -> None:
        """Empties the line, until the bar is drawn again."""
        if self._visible:
            self._bar.clear()
        self._visible = False

    def close(self) -> None:
        """Leaves the bar as it stands, and begins a new line."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._visible = None, False

    def _make(self, moment: Moment, bar_format: str) -> Any:
        """Makes the bar, which draws it."""
        self._bar = self._tqdm(
            total=moment.total,
            initial=moment.done,
            file=self._file,
            position=0,
            dynamic_ncols=True,
            bar_format=bar_format,
            mininterval=0,
        )
        return self._bar


def _line(moment: Moment) -> str:
    """Returns the format of a line that fits the terminal: the values stay longest, the bar gives way."""
    columns = shutil.get_terminal_size().columns - 1
    before, after = f"{moment.title} {moment.count} ", after_the_bar(moment)
    room = columns - len(before) - len(after) - len("|| ")
    if room < _NARROWEST_BAR:
        after = " - ".join([moment.clock, *moment.words])
        room = columns - len(before) - len(after) - len("|| ")
    if moment.total is None or room < _NARROWEST_BAR:
        return as_format(_cut(before + after, columns))
    return f"{as_format(before)}|{{bar:{min(room, _WIDEST_BAR)}}}| {as_format(after)}"


def after_the_bar(moment: Moment) -> str:
    """Returns time, pace and values."""
    return " - ".join(part for part in (moment.clock, moment.pace, *moment.words) if part)


def as_format(text: str) -> str:
    """Returns a format of tqdm that yields the text."""
    return text.replace("{", "{{").replace("}", "}}")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
