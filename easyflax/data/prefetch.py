"""Reads ahead of the training loop, in one thread, so that data are prepared while the device computes."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

SECONDS_TO_STOP = 5.0  # how long `close` waits for the item that is being read


class Prefetch(Generic[T]):
    """An iterator over what `items` yields, read in a thread of its own a few items ahead.

    The thread ends with the items, with an exception, which `next` then raises with its traceback, or when
    `close` is called. It never reads on after `close`.

    Args:
        items: is run, and closed, in the thread.
        ahead: how many items may be ready and not taken.

    Examples:
        >>> squares = Prefetch(number**2 for number in range(4))
        >>> list(squares), squares.close()
        ([0, 1, 4, 9], [])
    """

    def __init__(self, items: Generator[T, Any, Any], ahead: int = 2):
        self._items = items
        self._ahead = ahead
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_stopped = False
        self._is_done = False
        self._error: BaseException | None = None
        # In a copy of the context, so that settings such as np.errstate hold in the thread as well.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), name="easyflax-data", daemon=True)
        self._thread.start()

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._is_done)
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
        self._thread.join()
        if self._error is None:
            raise StopIteration
        error, self._error = self._error, None
        raise error

    def close(self) -> list[T]:
        """Stops reading, and returns the items that were read and not taken."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._thread.join(SECONDS_TO_STOP)
        with self._changed:
            left, self._ready = list(self._ready), deque()
        return left

    @property
    def is_reading(self) -> bool:
        """Whether the thread is alive; after `close` only if an item takes very long to read."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._hand_over(item):
                    break
            self._items.close()
        except BaseException as error:  # whatever it is, it is the consumer's
            self._error = error
        finally:
            with self._changed:
                self._is_done = True
                self._changed.notify_all()

    def _hand_over(self, item: T) -> bool:
        """Makes `item` ready, waits until another one is wanted, and returns whether one is."""
        with self._changed:
            self._ready.append(item)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_stopped or len(self._ready) < self._ahead)
            return not self._is_stopped
