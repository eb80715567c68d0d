"""Progress as plain lines, for logs, files and those who like it short."""

from __future__ import annotations

from typing import TextIO

from easyflax.train.progress_text import Moment


class LineDisplay:
    """Prints a line when something is over, and if asked for one now and then before.

    Args:
        file: where to.
        seconds_between_lines: how often a line is printed before the end; None for never.
    """

    shares_a_line = False
    seconds_between = 0.1

    def __init__(self, file: TextIO, seconds_between_lines: float | None = None):
        self._file = file
        self._seconds_between_lines = seconds_between_lines
        self._last = 0.0

    def draw(self, moment: Moment) -> None:
        """Prints a line, if it is time."""
        if moment.seconds < self._last:
            self._last = 0.0  # something new has begun
        if self._seconds_between_lines is None or moment.seconds - self._last < self._seconds_between_lines:
            return
        self._last = moment.seconds
        head = f"{moment.title} {moment.count}"
        self._print(" - ".join(part for part in (head, moment.clock, moment.pace, *moment.words) if part))

    def finish(self, moment: Moment) -> None:
        """Prints the last line."""
        self._last = 0.0
        self._print(moment.last_line())

    def hide(self) -> None:
        """Does nothing: lines stay."""

    def close(self) -> None:
        """Does nothing: nothing is pending."""

    def _print(self, line: str) -> None:
        print(line, file=self._file, flush=True)
