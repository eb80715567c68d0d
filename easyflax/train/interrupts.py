"""Ctrl-C between steps, not within one: a step that was cut short would lose the weights it had just made.

A step is dispatched by one call that deletes the old state and returns the new one. Python raises
KeyboardInterrupt as soon as such a call returns, before its result is stored, and then both are gone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Notes a Ctrl-C until somebody asks for it."""

    def __init__(self) -> None:
        self._pending = False

    def check(self) -> None:
        """Raises KeyboardInterrupt if there was a Ctrl-C."""
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def note(self, signum: int, frame: FrameType | None) -> None:
        """Handles SIGINT: the first is noted, a second one interrupts at once."""
        if self._pending:
            signal.default_int_handler(signum, frame)
        self._pending = True


@contextmanager
def between_steps() -> Iterator[Interrupts]:
    """Holds Ctrl-C back until `Interrupts.check`, and at the latest until the end of the block.

    Handlers that the user installed are left alone, and only the main thread can install one.
    """
    interrupts = Interrupts()
    is_ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not is_ours:
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts.note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.check()
