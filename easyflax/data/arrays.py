"""Batches of arrays that are in memory: vectorised takes, in an order that is a function of seed and pass."""

from __future__ import annotations

from collections.abc import Generator

import jax
import numpy as np

from easyflax.data.row_source import RowSource
from easyflax.data.rows import batch_rows, take, take_rows
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
        rows = self.rows_of_epoch(number, steps)
        return (rows.batch(index) for index in range(rows.num_batches))

    def rows_of_epoch(self, number: int, steps: int | None = None) -> RowsOfEpoch:
        """Returns the rows of an epoch, of which any batches can be taken, one or several at a time.

        Args:
            number: of the epoch, from 0.
            steps: see `Source.epoch`.
        """
        return RowsOfEpoch(self, self.positions(number, steps))

    def first_batch(self) -> Batch:
        """Returns the first rows as they stand."""
        return take_rows(self.data, self.first_rows())


class RowsOfEpoch:
    """The batches of an epoch over arrays in memory, numbered from 0; `ArraySource.rows_of_epoch` makes it.

    Args:
        source: whose rows they are.
        positions: the batches of the epoch as `source` numbers them.

    Examples:
        >>> rows = ArraySource(Batch(np.arange(7)), batch_size=2).rows_of_epoch(0)
        >>> rows.num_batches, rows.is_full(3), rows.batch(3).x.tolist()
        (4, False, [6])
        >>> rows.take(1, 2).x.tolist()
        [[2, 3], [4, 5]]
    """

    def __init__(self, source: ArraySource, positions: range):
        self._source = source
        self._positions = positions
        self._arrays, self._structure = jax.tree.flatten(source.data)

    @property
    def num_batches(self) -> int:
        """Batches of the epoch."""
        return len(self._positions)

    def is_full(self, index: int) -> bool:
        """Returns whether a batch has `batch_size` rows: all but the last of a pass over the data do."""
        return self._are_full(self._positions[index], 1)

    def batch(self, index: int) -> Batch:
        """Returns a batch, as `ArraySource.epoch` yields it."""
        rows = self._source.rows_of(self._positions[index])
        return self._structure.unflatten([take(array, rows) for array in self._arrays])

    def take(self, first: int, count: int) -> Batch:
        """Returns several batches in one, with a single take for each array.

        Args:
            first: the number of the first one.
            count: how many; all of them full, see `is_full`.

        Returns:
            Every array `(count, batch_size, ...)`; views where the rows are read as they stand.

        Raises:
            ValueError: they are not all in the epoch, or not all full.
        """
        positions = self._positions[first : first + count] if first >= 0 else range(0)
        if not 0 < count == len(positions) or not self._are_full(positions[0], count):
            raise ValueError(
                f"take: batches {first} to {first + count - 1} of an epoch of {self.num_batches} are asked "
                f"for, expected full ones of this epoch. Take the others one by one, with batch."
            )
        rows = self._rows(positions[0], count)
        shape = (count, self._source.batch_size)
        return self._structure.unflatten(
            [take(array, rows).reshape(*shape, *array.shape[1:]) for array in self._arrays]
        )

    def _are_full(self, position: int, count: int) -> bool:
        source = self._source
        has_rest = source.num_rows % source.batch_size > 0
        return not has_rest or position % source.num_batches + count < source.num_batches

    def _rows(self, position: int, count: int) -> slice | np.ndarray:
        """Returns the rows of batches that follow each other, perhaps in several passes over the data."""
        source, parts = self._source, []
        end = position + count
        while position < end:
            pass_number, index = divmod(position, source.num_batches)
            whole = min(end - position, source.num_batches - index)
            begin = index * source.batch_size
            parts.append(source.rows_of_pass(pass_number, begin, begin + whole * source.batch_size))
            position += whole
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.r_[part] if isinstance(part, slice) else part for part in parts])
