"""A terminal that shows nothing, on which progress bars draw what they draw on a real one."""

from __future__ import annotations

import contextlib
import os
from typing import Any, cast


class Terminal:
    """Takes what is written, as a terminal does, and drops it."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.characters = 0

    def write(self, text: str) -> int:
        """Counts the characters."""
        self.characters += len(text)
        return len(text)

    def flush(self) -> None:
        """Does nothing."""

    def isatty(self) -> bool:
        """Says that bars can be drawn."""
        return True


def on_terminal() -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which `sys.stdout` is such a terminal."""
    if os.environ.get("TERM", "dumb") == "dumb":
        os.environ["TERM"] = "xterm"
    return contextlib.redirect_stdout(cast(Any, Terminal()))
