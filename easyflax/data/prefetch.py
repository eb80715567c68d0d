"""Reads ahead of the training loop in one thread, where data take long enough to read.

What takes less is read by the loop itself, while the device computes the steps that were dispatched before: a
thread costs more than it saves there. Which batches come, and in which order, does not depend on it.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

SECONDS_TO_STOP = 5.0  # how long `close` waits for the item that is being read
SECONDS_WORTH_A_THREAD = 1.5e-4  # for an item; handing it over costs some 5e-5, and waits for the interpreter


class Pace:
    """How long the items of some data take to read, over all the times that they are read."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Adds an item to the running mean, in which a single long one does not count for much."""
        self._seconds += (min(seconds, 4 * SECONDS_WORTH_A_THREAD) - self._seconds) / 8

    @property
    def is_slow(self) -> bool:
        """Whether a thread pays."""
        return self._seconds > SECONDS_WORTH_A_THREAD


class Prefetch(Generic[T]):
    """An iterator over what `items` yields, read in a thread of its own a few items ahead where that pays.

    The thread ends with the items, with an exception, which `next` then raises with its traceback, or when
    `close` is called. It never reads on after `close`.

    Args:
        items: is run, and closed, by `next` and `close`; in the thread from when there is one.
        ahead: how many items may be ready and not taken.
        pace: of these data, which says whether there is a thread; None: there is.

    Examples:
        >>> squares = Prefetch(number**2 for number in range(4))
        >>> list(squares), squares.close()
        ([0, 1, 4, 9], [])
    """

    def __init__(self, items: Generator[T, Any, Any], ahead: int = 2, pace: Pace | None = None):
        self._items = items
        self._ahead = ahead
        self._pace = pace
        self._is_begun = False
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_stopped = False
        self._is_done = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if pace is None or pace.is_slow:
            self._start()

    def _start(self) -> None:
        # In a copy of the context, so that settings such as np.errstate hold in the thread as well.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), name="easyflax-data", daemon=True)
        self._thread.start()

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        if self._thread is None:
            item = self._read()
            if self._pace is not None and self._pace.is_slow:
                self._start()
            return item
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
        if self._thread is None:
            self._items.close()
            return []
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
        return self._thread is not None and self._thread.is_alive()

    def _read(self) -> T:
        """Returns the next item; all but the first, which may open files, say something of the pace."""
        begin = time.perf_counter()
        item = next(self._items)
        if self._pace is not None and self._is_begun:
            self._pace.note(time.perf_counter() - begin)
        self._is_begun = True
        return item

    def _run(self) -> None:
        try:
            while self._hand_over(self._read()):
                pass
            self._items.close()
        except StopIteration:
            pass
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
