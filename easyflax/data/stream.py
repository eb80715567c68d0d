"""Batches from data that are read one after the other: generators, loaders, datasets of other libraries."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from easyflax.data.prefetch import Pace, Prefetch
from easyflax.data.rows import batch_rows
from easyflax.data.source import Batch
from easyflax.data.to_batch import ToBatch


@dataclass(frozen=True)
class Stream:
    """Data that can be opened and read.

    Attributes:
        kind: what it is, for messages, as in `"a generator"`.
        open: returns an iterator over what the data yield.
        is_restartable: whether `open` begins anew each time.
        length: how many batches there are, None if unknown.
        is_infinite: whether it is known that there is no end.
    """

    kind: str
    open: Callable[[], Iterator[Any]]
    is_restartable: bool = True
    length: int | None = None
    is_infinite: bool = False


class Place(NamedTuple):
    """Where reading is in a pass over the data: how many batches are read, and the iterator's own state."""

    batches: int = 0
    iterator: Any = None


class Item(NamedTuple):
    """A batch, and the place after it."""

    batch: Batch
    place: Place


class StreamSource:
    """A `Source` over a `Stream`; `as_source` makes it.

    A thread reads two batches ahead where that pays, and never beyond what an epoch asks for.

    Args:
        stream: the data.
        to_batch: makes batches of what it yields.
        repeats: whether an epoch of given steps goes on where the last one ended, and begins anew at the end
            of the data; else each epoch begins anew and ends there. What cannot begin anew always goes on.
    """

    def __init__(self, stream: Stream, to_batch: ToBatch, *, repeats: bool = True):
        self.num_rows = None
        self.num_batches = stream.length
        self._stream = stream
        self._to_batch = to_batch
        self._pace = Pace()
        self._repeats = repeats
        self._iterator: Iterator[Any] | None = None
        self._read_place = Place()
        self._given_place = Place()
        self._is_begun = False  # whether an epoch got batches of the running pass
        self._has_given = False
        self._batch_size = 0
        self._pending: deque[Item] = deque()  # read and not given to anybody
        self._has_ended = False
        self._next_epoch = 0

    @property
    def batch_size(self) -> int:
        """Rows of the first batch that was looked at."""
        self._batch_size = self._batch_size or batch_rows(self.first_batch())
        return self._batch_size

    @property
    def is_exhausted(self) -> bool:
        """Whether there is no further batch; may read one, which the next epoch begins with."""
        if self._stream.is_restartable and not self._has_ended:
            return False
        return self._peek() is None

    def first_batch(self) -> Batch:
        """Returns the batch that the next epoch begins with.

        Raises:
            ValueError: there is none.
        """
        item = self._peek()
        if item is None:
            raise ValueError(
                f"{self._to_batch.caller}: {self._stream.kind} yielded no batch, expected at least one. "
                f"Check that it was not read to its end before, and make a new one."
            )
        return item.batch

    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch, see `Source.epoch`."""
        self._next_epoch = number + 1
        if (steps is None or not self._repeats) and self._is_begun and self._stream.is_restartable:
            self._close()
        items = Prefetch(self._read(number, steps), pace=self._pace)
        try:
            for item in items:
                self._given_place, self._is_begun, self._has_given = item.place, True, True
                self._batch_size = self._batch_size or batch_rows(item.batch)
                yield item.batch
            if self._iterator is None:  # the pass is over
                self._given_place, self._is_begun = Place(), False
        finally:
            self._keep(items)

    def state(self) -> Any:
        """Returns where reading is: batches of this pass, and the state of the iterator if it has one."""
        return self._given_place._asdict()

    def set_state(self, state: Any) -> None:
        """Goes on where `state` was taken; without a state of the iterator, batches are read and dropped.

        Raises:
            ValueError: the data cannot be read again, and are beyond that place.
        """
        place = Place(**state)
        if not self._stream.is_restartable:
            self._read_up_to(place)
            return
        self._close()
        self._iterator = self._stream.open()
        if place.iterator is not None:
            self._iterator.set_state(place.iterator)  # type: ignore[attr-defined]
        else:
            for _ in itertools.islice(self._iterator, place.batches):
                pass
        self._read_place = self._given_place = place

    # -- reading

    def _read_up_to(self, place: Place) -> None:
        batches = place.batches - self._given_place.batches
        if batches < 0:
            raise ValueError(
                f"{self._to_batch.caller}: {self._stream.kind} was read up to batch "
                f"{self._given_place.batches}, expected at most {place.batches}, from where to go on. Make a "
                f"new one, or pass data that can be read again."
            )
        for item in self._read(self._next_epoch, batches):
            self._given_place = item.place

    def _peek(self) -> Item | None:
        if not self._pending:
            self._pending.extend(self._read(self._next_epoch, 1))
        return self._pending[0] if self._pending else None

    def _read(self, epoch: int, steps: int | None) -> Generator[Item, None, None]:
        """Yields the next items, at most `steps` or to the end of the pass."""
        goes_on = steps is not None and self._repeats and self._stream.is_restartable
        for number in itertools.count(1) if steps is None else range(1, steps + 1):
            if self._pending:
                yield self._pending.popleft()
                continue
            with self._to_batch.noting(epoch, number):
                data = self._next(goes_on)
            if data is None:
                return
            yield Item(self._to_batch(data[0], epoch, number), self._read_place)

    def _next(self, goes_on: bool) -> tuple[Any] | None:
        """Returns what comes next, in a tuple; None at the end."""
        if self._has_ended:
            return None
        if self._iterator is None:
            self._iterator = self._stream.open()
        try:
            data = next(self._iterator)
        except StopIteration:
            read = self._end_pass()
            return self._next(goes_on) if goes_on and read else None
        except BaseException:
            self._close()
            raise
        has_state = hasattr(self._iterator, "get_state")
        state = self._iterator.get_state() if has_state else None  # type: ignore[attr-defined]
        self._read_place = Place(self._read_place.batches + 1, state)
        return (data,)

    def _end_pass(self) -> int:
        """Notes that a pass is over, and returns how many batches it had."""
        batches = self._read_place.batches
        self._iterator, self._read_place = None, Place()
        if not batches and self._has_given and self._stream.is_restartable:
            raise ValueError(
                f"{self._to_batch.caller}: {self._stream.kind} yielded no batch when it was read again, "
                f"expected it to begin anew. Pass a function that returns a new iterator each time."
            )
        self._has_ended = not batches or not self._stream.is_restartable
        self.num_batches = batches or self.num_batches
        return batches

    def _keep(self, items: Prefetch[Item]) -> None:
        """Stops reading; what was read and not given is for the next epoch."""
        left = items.close()
        if items.is_reading:  # the iterator is left to the thread, which may never come back from it
            self._close()
            self._has_ended = True
        else:
            self._pending.extendleft(reversed(left))

    def _close(self) -> None:
        """Drops what was read and the iterator; what cannot be opened again has then ended."""
        self._pending.clear()
        self._has_ended = self._has_ended or not self._stream.is_restartable
        self._iterator, self._is_begun = None, False
        self._read_place = self._given_place = Place()
