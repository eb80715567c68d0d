"""Batches of rows that have numbers and can be read in any order."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Self

import numpy as np

from easyflax.data.order import positions, shuffled_rows
from easyflax.data.prefetch import Pace, Prefetch
from easyflax.data.source import Batch, check_no_state
from easyflax.data.to_batch import ToBatch


class RowSource(ABC):
    """A `Source` over numbered rows, which it groups into batches.

    Its batches are numbered from zero and without end, pass after pass over the rows, so that a position in
    the data is one integer and training can start anywhere.

    Args:
        num_rows: how many rows there are.
        batch_size: rows of a batch; the last of a pass has what is left.
        seed: shuffles with this seed; None reads the rows as they stand.
        repeats: whether an epoch of given steps goes on where the last one ended; else each is the beginning
            of the data.
    """

    def __init__(self, num_rows: int, batch_size: int, *, seed: int | None = None, repeats: bool = True):
        self.num_rows = num_rows
        self.batch_size = batch_size
        self._seed = seed
        self._repeats = repeats

    @property
    def num_batches(self) -> int:
        """Batches of one pass."""
        return math.ceil(self.num_rows / self.batch_size)

    @property
    def is_exhausted(self) -> bool:
        """False: the rows can be read again."""
        return False

    @abstractmethod
    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch, see `Source.epoch`."""

    @abstractmethod
    def first_batch(self) -> Batch:
        """Returns the first rows as they stand."""

    def rebatched(self, batch_size: int) -> Self:
        """Returns a source of the same rows in batches of another size."""
        other = copy.copy(self)
        other.batch_size = batch_size
        return other

    def state(self) -> None:
        """Returns None: the place in the data follows from the number of the epoch."""
        return None  # noqa: RET501

    def set_state(self, state: None) -> None:
        """Goes on where `state` was taken, which is nothing to do here.

        Raises:
            ValueError: it is of data of another kind.
        """
        check_no_state(state)

    def positions(self, number: int, steps: int | None) -> range:
        """Returns which batches make an epoch, see `Source.epoch`."""
        return positions(number, steps, self.num_batches, repeats=self._repeats)

    def rows_of(self, position: int) -> slice | np.ndarray:
        """Returns which rows make a batch; a slice where the rows are read as they stand."""
        pass_number, index = divmod(position, self.num_batches)
        begin = index * self.batch_size
        return self.rows_of_pass(pass_number, begin, min(begin + self.batch_size, self.num_rows))

    def rows_of_pass(self, pass_number: int, begin: int, end: int) -> slice | np.ndarray:
        """Returns the rows that a pass reads from its place `begin` up to `end`."""
        rows = slice(begin, end)
        return rows if self._seed is None else shuffled_rows(self.num_rows, self._seed, pass_number)[rows]

    def first_rows(self) -> slice:
        """Returns which rows `first_batch` consists of."""
        return slice(0, min(self.batch_size, self.num_rows))


class RowDatasetSource(RowSource):
    """A `Source` over a dataset that gives rows by their numbers; where it pays, a thread reads ahead.

    Args:
        read: returns the rows of the given numbers, stacked: what `to_batch` takes.
        to_batch: makes batches of it.
        num_rows: how many rows there are.
        batch_size: rows of a batch; the last of a pass has what is left.
        seed: shuffles with this seed; None reads the rows as they stand.
        repeats: see `RowSource`.
    """

    def __init__(
        self,
        read: Callable[[list[int]], Any],
        to_batch: ToBatch,
        num_rows: int,
        batch_size: int,
        *,
        seed: int | None = None,
        repeats: bool = True,
    ):
        super().__init__(num_rows, batch_size, seed=seed, repeats=repeats)
        self._read = read
        self._to_batch = to_batch
        self._pace = Pace()

    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch, see `Source.epoch`."""
        items = Prefetch(self._batches(number, steps), pace=self._pace)
        try:
            yield from items
        finally:
            items.close()

    def first_batch(self) -> Batch:
        """Returns the first rows as they stand."""
        return self._batch(self.first_rows(), 0, 1)

    def _batches(self, number: int, steps: int | None) -> Generator[Batch, None, None]:
        for count, position in enumerate(self.positions(number, steps), start=1):
            yield self._batch(self.rows_of(position), number, count)

    def _batch(self, rows: slice | np.ndarray, epoch: int, count: int) -> Batch:
        with self._to_batch.noting(epoch, count):
            data = self._read(np.arange(self.num_rows)[rows].tolist())
        return self._to_batch(data, epoch, count)
