"""Batches of arrays that are in memory: vectorised takes, in an order that is a function of seed and pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from easyflax.data.order import shuffled_rows
from easyflax.data.rows import batch_rows, pad_batch, take_rows
from easyflax.data.source import Batch


class ArraySource:
    """A `Source` over NumPy arrays; `as_source` makes it.

    Its batches are numbered from zero and without end, pass after pass over the rows, so that a position in
    the data is one integer and training can start anywhere.

    Args:
        data: all rows.
        batch_size: rows of a batch; the last of a pass has what is left.
        seed: shuffles with this seed; None reads the rows as they stand.
        pad_to: see `padded`.
    """

    def __init__(self, data: Batch, batch_size: int, seed: int | None = None, pad_to: int | None = None):
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.pad_to = pad_to
        self.num_rows = batch_rows(data)
        self.num_batches = math.ceil(self.num_rows / batch_size)

    @property
    def y(self) -> Any:
        """All targets, or None."""
        return self.data.y

    @property
    def is_exhausted(self) -> bool:
        """False: arrays can be read again."""
        return False

    def epoch(self, number: int, steps: int | None = None) -> Iterator[Batch]:
        """Yields the batches of an epoch, see `Source.epoch`."""
        steps = self.num_batches if steps is None else steps
        return self.batches(number * steps, (number + 1) * steps)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yields the batches numbered `start` to `stop - 1`."""
        return (self.batch(position) for position in range(start, stop))

    def batch(self, position: int) -> Batch:
        """Returns batch number `position`, counted over all passes."""
        number, index = divmod(position, self.num_batches)
        begin = index * self.batch_size
        rows: Any = slice(begin, min(begin + self.batch_size, self.num_rows))  # a slice copies nothing
        if self.seed is not None:
            rows = shuffled_rows(self.num_rows, self.seed, number)[rows]
        batch = take_rows(self.data, rows)
        return batch if self.pad_to is None else pad_batch(batch, self.pad_to)

    def padded(self, *, multiple_of: int = 1) -> ArraySource:
        """Returns this source with all batches of one shape and a mask.

        Args:
            multiple_of: what the number of rows is to be a multiple of, the number of devices.
        """
        rows = min(self.batch_size, self.num_rows)
        return ArraySource(self.data, self.batch_size, self.seed, math.ceil(rows / multiple_of) * multiple_of)

    def real_rows(self, position: int) -> int:
        """Returns how many rows of batch `position` are real, padding not counted."""
        begin = position % self.num_batches * self.batch_size
        return min(self.batch_size, self.num_rows - begin)

    def first_batch(self) -> Batch:
        """Returns the first rows as they stand."""
        return ArraySource(self.data, self.batch_size, pad_to=self.pad_to).batch(0)
