"""Progress as a bar of tqdm: one line of a terminal that changes, or a widget of a notebook."""

from __future__ import annotations

import shutil
import warnings
from typing import Any, TextIO

from easyflax.train.progress_text import Moment

_WIDEST_BAR, _NARROWEST_BAR = 20, 5


class BarDisplay:
    """Draws a bar for each epoch, evaluation or prediction; the line that stays has none.

    Args:
        file: a terminal or the output of a notebook.
    """

    def __init__(self, file: TextIO):
        with warnings.catch_warnings():
            # In a notebook without ipywidgets there is a warning, and then text instead of a widget.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm  # slow to import, and not needed by silent runs
        self._tqdm = tqdm
        self._file = file
        self._bar: Any = None
        self.shares_a_line = not any("notebook" in cls.__module__ for cls in tqdm.__mro__)
        self._visible = False

    def draw(self, moment: Moment) -> None:
        """Draws the bar."""
        bar_format = self._line(moment) if self.shares_a_line else _widget(moment)
        if self._bar is None:
            self._make(moment, bar_format)
        else:
            self._bar.n, self._bar.bar_format = moment.done, bar_format
            self._bar.refresh()
        self._visible = True

    def finish(self, moment: Moment) -> None:
        """Replaces the bar by the line that stays."""
        if self.shares_a_line:
            last = _plain(moment.last_line(shutil.get_terminal_size().columns - 1))
        else:
            last = "{bar}" + _plain(moment.last_line())
        bar = self._make(moment, last) if self._bar is None else self._bar
        if self.shares_a_line:
            bar.ncols, bar.dynamic_ncols = None, False  # the lines are broken already
        bar.n, bar.bar_format = moment.done, last
        self.close()

    def hide(self) -> None:
        """Empties the line, until the bar is drawn again."""
        if self._visible and self.shares_a_line:
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

    def _line(self, moment: Moment) -> str:
        """Returns the format of a line that fits the terminal: the values stay longest, the bar gives way."""
        columns = shutil.get_terminal_size().columns - 1
        before, after = f"{moment.title} {moment.count} ", _after(moment)
        room = columns - len(before) - len(after) - len("|| ")
        if room < _NARROWEST_BAR:
            after = " - ".join([moment.clock, *moment.words])
            room = columns - len(before) - len(after) - len("|| ")
        if moment.total is None or room < _NARROWEST_BAR:
            return _plain(_cut(before + after, columns))
        return f"{_plain(before)}|{{bar:{min(room, _WIDEST_BAR)}}}| {_plain(after)}"


def _after(moment: Moment) -> str:
    return " - ".join(part for part in (moment.clock, moment.pace, *moment.words) if part)


def _widget(moment: Moment) -> str:
    """Returns the format around the bar of a notebook, which has a width of its own."""
    return f"{_plain(moment.title)} {moment.count} {{bar}} {_plain(_after(moment))}"


def _plain(text: str) -> str:
    """Returns text as a format that yields it."""
    return text.replace("{", "{{").replace("}", "}}")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
