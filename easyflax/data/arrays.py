"""Batches of arrays that are in memory: vectorised takes, in an order that is a function of seed and pass."""

from __future__ import annotations

from collections.abc import Generator

from easyflax.data.row_source import RowSource
from easyflax.data.rows import batch_rows, take_rows
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

    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch, see `Source.epoch`; without shuffling they are views."""
        return (take_rows(self.data, rows) for rows in self.rows_of_batches(number, steps))

    def first_batch(self) -> Batch:
        """Returns the first rows as they stand."""
        return take_rows(self.data, self.first_rows())
