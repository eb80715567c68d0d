"""A terminal shared with whatever else prints: before others write, what is drawn there is taken away."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Screen:
    """Knows whether the cursor stands at the beginning of a line.

    Args:
        hide: takes away what is drawn at the cursor.
    """

    def __init__(self, hide: Callable[[], None]):
        self.hide = hide
        self.is_at_line_start = True


class SharedStream:
    """A stream that hides what is drawn before it writes; for everything else it is the stream itself."""

    def __init__(self, stream: TextIO, screen: Screen):
        self._stream = stream
        self._screen = screen

    def write(self, text: str) -> int:
        """Writes the text where the drawing was."""
        if not text:
            return 0
        self._screen.hide()
        self._screen.is_at_line_start = text.endswith("\n")
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Writes each of the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def shared_screen(hide: Callable[[], None]) -> Iterator[Screen]:
    """Has `print`, warnings and the like call `hide` before they write, within the block."""
    screen = Screen(hide)
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    if streams["stdout"].isatty() and not streams["stderr"].isatty():
        del streams["stderr"]  # it goes elsewhere
    ours = {name: SharedStream(stream, screen) for name, stream in streams.items()}
    for name, stream in ours.items():
        setattr(sys, name, stream)
    try:
        yield screen
    finally:
        for name, stream in ours.items():
            if getattr(sys, name) is stream:  # unless somebody put another one there, and keeps it
                setattr(sys, name, streams[name])
