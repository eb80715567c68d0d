"""Batches of arrays that are in memory: vectorised takes, in an order that is a function of seed and pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from easyflax.data.row_source import RowSource
from easyflax.data.rows import batch_rows, pad_batch, take_rows
from easyflax.data.source import Batch


class ArraySource(RowSource):
    """A `Source` over NumPy arrays; `as_source` makes it.

    Args:
        data: all rows.
        batch_size: rows of a batch; the last of a pass has what is left.
        seed: shuffles with this seed; None reads the rows as they stand.
        repeats: see `RowSource`.
    """

    def __init__(self, data: Batch, batch_size: int, *, seed: int | None = None, repeats: bool = True):
        super().__init__(batch_rows(data), batch_size, seed=seed, repeats=repeats)
        self.data = data
        self.pad_to: int | None = None

    def epoch(self, number: int, steps: int | None = None) -> Iterator[Batch]:
        """Yields the batches of an epoch, see `Source.epoch`; without shuffling they are views."""
        return (self._padded(take_rows(self.data, rows)) for rows in self.rows_of_batches(number, steps))

    def first_batch(self) -> Batch:
        """Returns the first rows as they stand."""
        return self._padded(take_rows(self.data, self.first_rows()))

    @property
    def y(self) -> Any:
        """All targets, or None."""
        return self.data.y

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yields the batches numbered `start` to `stop - 1`, where `stop - start` divides `start`."""
        return self.epoch(start // (stop - start), stop - start)

    def padded(self, *, multiple_of: int = 1) -> ArraySource:
        """Returns this source with all batches of one shape and a mask.

        Args:
            multiple_of: what the number of rows is to be a multiple of, the number of devices.
        """
        source = ArraySource(self.data, self.batch_size, seed=self._seed, repeats=self._repeats)
        source.pad_to = math.ceil(min(self.batch_size, self.num_rows) / multiple_of) * multiple_of
        return source

    def real_rows(self, position: int) -> int:
        """Returns how many rows of batch `position` are real, padding not counted."""
        begin = position % self.num_batches * self.batch_size
        return min(self.batch_size, self.num_rows - begin)

    def _padded(self, batch: Batch) -> Batch:
        return batch if self.pad_to is None else pad_batch(batch, self.pad_to)
