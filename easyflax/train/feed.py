"""The batches of an epoch, in the groups in which they go to the device."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.data import Batch, Source
from easyflax.train.grouping import Grouping
from easyflax.train.specs import num_bytes

__all__ = ["Feed", "Part", "feed_of", "single", "stacked"]

READ = 2**20  # bytes that single batches are read ahead
PATIENCE = 0.02  # seconds that a group may wait for further batches of a stream


@dataclass(frozen=True)
class Part:
    """Batches of one shape, one after the other.

    Attributes:
        batches: a batch; or several, every array `(number, rows, ...)`.
        count: how many of them are meant, the first ones; 0 for a batch by itself.
    """

    batches: Batch
    count: int = 0

    def __len__(self) -> int:
        return self.count or 1

    def at(self, index: int) -> Batch:
        """Returns one of them."""
        return jax.tree.map(lambda array: array[index], self.batches) if self.count else self.batches


def single(batch: Batch) -> list[Part]:
    """Returns a group of one batch."""
    return [Part(batch)]


class Feed(Protocol):
    """The batches of an epoch."""

    def next(self, most: int) -> list[Part]:
        """Returns the next batches, `most` or fewer; none at the end."""
        ...

    def close(self) -> None:
        """Ends the reading."""
        ...


def feed_of(source: Source, epoch: int, steps: int | None, how: Grouping, *, done: int = 0) -> Feed:
    """Returns the batches of an epoch.

    Args:
        source: the data.
        epoch: its number.
        steps: see `Source.epoch`.
        how: how they are grouped.
        done: batches of the epoch to leave out.
    """
    rows_of_epoch = getattr(source, "rows_of_epoch", None)
    if rows_of_epoch is not None:
        return RowFeed(rows_of_epoch(epoch, steps), done, how)
    batches = source.epoch(epoch, steps)
    for _ in range(done):
        next(batches, None)
    return StreamFeed(batches, how)


class RowFeed:
    """Groups of batches of numbered rows, each read at once; single ones are read some at a time.

    Args:
        rows: the rows of the epoch.
        first: the batch to begin with.
        how: see `feed_of`.
    """

    def __init__(self, rows: Any, first: int, how: Grouping):
        self._rows = rows
        self._next = first
        self._how = how
        self._read: deque[Batch] = deque()  # single batches from `_next` on

    def next(self, most: int) -> list[Part]:
        """Returns the next batches, `most` or fewer; none at the end."""
        end = min(self._next + most, self._rows.num_batches)
        parts: list[Part] = []
        while self._next < end:
            parts.append((self._several(end, most) if self._how.is_looped else None) or self._one())
        return parts

    def _several(self, end: int, most: int) -> Part | None:
        count = self._full_batches(end)
        if not count:
            return None
        batches = _filled_up(self._rows.take(self._next, count), self._how.length if most > 1 else 1)
        self._next += count
        return Part(batches, count)

    def _one(self) -> Part:
        if not self._read:
            batch = self._rows.batch(self._next)
            self._read.append(batch)
            size = num_bytes(batch)
            count = self._full_batches(min(self._next + READ // max(size, 1), self._rows.num_batches))
            if count > 1:
                batches = self._rows.take(self._next, count)
                self._read = deque(jax.tree.map(itemgetter(index), batches) for index in range(count))
        self._next += 1
        return Part(self._read.popleft())

    def close(self) -> None:
        """Does nothing: nothing is read ahead."""

    def _full_batches(self, end: int) -> int:
        count = 0
        while self._next + count < end and self._rows.is_full(self._next + count):
            count += 1
        return count


class StreamFeed:
    """Groups of batches that come one after the other; those of the first one's shape are stacked.

    Args:
        batches: the batches.
        how: see `feed_of`.
    """

    def __init__(self, batches: Generator[Batch, None, None], how: Grouping):
        self._batches = batches
        self._how = how
        self._shapes: Any = None
        self._raised: BaseException | None = None  # while there were batches to be trained on before

    def next(self, most: int) -> list[Part]:
        """Returns the next batches, `most` or fewer; none at the end."""
        if not self._how.is_looped:
            batch = next(self._batches, None)
            return [] if batch is None else single(batch)
        return [part for run in self._runs(self._read(most)) for part in self._parts(run)]

    def close(self) -> None:
        """Ends the reading."""
        self._batches.close()

    def _read(self, most: int) -> list[Batch]:
        read: list[Batch] = []
        until = time.perf_counter() + PATIENCE
        while len(read) < most and (batch := self._next(is_first=not read)) is not None:
            read.append(batch)
            if not self._how.is_fixed and time.perf_counter() > until:
                break
        return read

    def _next(self, *, is_first: bool) -> Batch | None:
        """Returns the next batch, None at the end; what the data raise is raised where it comes first."""
        if self._raised is not None:
            raise self._raised
        try:
            return next(self._batches, None)
        except BaseException as error:
            if is_first:
                raise
            self._raised = error
            return None

    def _runs(self, batches: Sequence[Batch]) -> Iterator[tuple[bool, list[Batch]]]:
        """Yields batches that come together, and whether they are of the first batch's shape."""
        run: list[Batch] = []
        for batch in batches:
            shapes = _shapes(batch)
            self._shapes = self._shapes or shapes
            if shapes == self._shapes:
                run.append(batch)
                continue
            if run:
                yield True, run
            yield False, [batch]
            run = []
        if run:
            yield True, run

    def _parts(self, run: tuple[bool, list[Batch]]) -> list[Part]:
        is_usual, batches = run
        if not is_usual:
            return single(batches[0])
        return [Part(stacked(batches, self._how.length), len(batches))]


def stacked(batches: Sequence[Batch], length: int) -> Batch:
    """Returns batches of one shape with every array `(length, rows, ...)`; what is left over repeats some."""
    filled = [*batches, *([batches[-1]] * (length - len(batches)))]
    return jax.tree.map(lambda *arrays: _stack(arrays), *filled)


def _stack(arrays: Sequence[Any]) -> Any:
    are_on_device = any(isinstance(array, jax.Array) for array in arrays)
    return jnp.stack(arrays) if are_on_device else np.stack(arrays)


def _filled_up(batches: Batch, length: int) -> Batch:
    """Returns stacked batches with room for `length` of them."""

    def filled(array: Any) -> Any:
        if array.shape[0] == length:
            return array
        if isinstance(array, jax.Array):
            return jnp.concatenate([array, jnp.repeat(array[-1:], length - array.shape[0], axis=0)])
        whole = np.zeros((length, *array.shape[1:]), array.dtype)
        whole[: array.shape[0]] = array
        return whole

    return jax.tree.map(filled, batches)


def _shapes(batch: Batch) -> Any:
    leaves, structure = jax.tree.flatten(batch)
    return structure, [leaf.shape for leaf in leaves]
