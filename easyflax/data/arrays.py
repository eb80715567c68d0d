"""Batches of arrays that are in memory: vectorised takes, in an order that is a function of seed and pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from easyflax.data.convert import named_leaves, to_host_arrays
from easyflax.data.order import shuffled_rows
from easyflax.data.source import Batch


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A `Source` over NumPy arrays; make it with `as_batches`.

    Attributes:
        x: inputs, any nesting of `(rows, ...)` arrays.
        y: targets, likewise, or None.
        num_rows: rows of all arrays.
        batch_size: rows of a batch; the last of a pass has what is left.
        seed: shuffles with this seed; None reads the rows as they stand.
        pad_to: every batch gets this many rows (the last row repeated) and a mask; None pads nothing.
    """

    x: Any
    y: Any
    num_rows: int
    batch_size: int
    seed: int | None = None
    pad_to: int | None = None

    @property
    def num_batches(self) -> int:
        """Batches of one pass over the rows."""
        return -(-self.num_rows // self.batch_size)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yields the batches numbered `start` to `stop - 1`."""
        return (self.batch(position) for position in range(start, stop))

    def batch(self, position: int) -> Batch:
        """Returns batch number `position`, counted over all passes."""
        rows = self._rows(position)
        if self.pad_to is None:
            return Batch(_take(self.x, rows), _take(self.y, rows))
        real = self.real_rows(position)
        if real < self.pad_to:
            rows = _repeat_last(rows, self.pad_to)
        return Batch(_take(self.x, rows), _take(self.y, rows), np.arange(self.pad_to) < real)

    def padded(self, *, multiple_of: int = 1) -> ArraySource:
        """Returns this source with all batches of one shape and a mask.

        Args:
            multiple_of: what the number of rows is to be a multiple of, the number of devices.
        """
        rows = min(self.batch_size, self.num_rows)
        return replace(self, pad_to=-(-rows // multiple_of) * multiple_of)

    def first_batch(self) -> Batch:
        """Returns the first rows as they stand, as a batch of the usual shape."""
        return replace(self, seed=None).batch(0)

    def real_rows(self, position: int) -> int:
        """Returns how many rows of batch `position` are real, padding not counted."""
        begin = position % self.num_batches * self.batch_size
        return min(self.batch_size, self.num_rows - begin)

    def _rows(self, position: int) -> slice | np.ndarray:
        """Returns the rows of batch `position`: a slice, which copies nothing, unless they are shuffled."""
        number, index = divmod(position, self.num_batches)
        rows = slice(index * self.batch_size, index * self.batch_size + self.real_rows(position))
        return rows if self.seed is None else shuffled_rows(self.num_rows, self.seed, number)[rows]


def as_batches(
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
) -> ArraySource:
    """Returns a source of batches over `x` and `y`.

    Args:
        x: inputs, any nesting of dicts, lists and tuples of NumPy or JAX arrays of shape `(rows, ...)`.
        y: targets, likewise, or None.
        batch_size: rows of a batch, 32 by default.
        shuffle: reads the rows in an order of their own for every pass, by `seed`.
        seed: a non-negative integer.

    Raises:
        ValueError: the arrays differ in length, are empty or of a dtype that cannot be used, or `batch_size`
            is less than 1.

    Examples:
        >>> source = as_batches(np.arange(5.0), np.arange(5), batch_size=2)
        >>> [batch.y.tolist() for batch in source.batches(0, source.num_batches)]
        [[0, 1], [2, 3], [4]]
    """
    x, y = to_host_arrays(x, "x"), to_host_arrays(y, "y")
    num_rows = common_length(named_leaves(x, "x") + named_leaves(y, "y"))
    size = check_batch_size(batch_size)
    return ArraySource(x, y, num_rows, size, seed if shuffle else None)


def check_batch_size(batch_size: int | None) -> int:
    """Returns `batch_size`, 32 for None.

    Raises:
        ValueError: it is no integer of at least 1.
    """
    if batch_size is None:
        return 32
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(
            f"batch_size is {batch_size!r}, expected an integer of at least 1. Leave it out for batches of "
            f"32 rows."
        )
    return int(batch_size)


def common_length(leaves: list[tuple[str, np.ndarray]]) -> int:
    """Returns the number of rows that all `leaves` have.

    Raises:
        ValueError: there is no array, or no row, or the lengths differ.
    """
    if not leaves:
        raise ValueError("x holds no arrays, expected at least one. Pass the inputs as x.")
    first_name, first = leaves[0]
    for name, leaf in leaves:
        if len(leaf) != len(first):
            raise ValueError(
                f"{first_name} has {len(first)} rows and {name} has {len(leaf)}, expected the same number. "
                f"Check that both were loaded whole, and filtered or split alike."
            )
    if not len(first):
        raise ValueError(
            f"{first_name} has shape {first.shape}, expected at least one row. Check how the data was "
            f"loaded or split."
        )
    return len(first)


def _repeat_last(rows: slice | np.ndarray, size: int) -> np.ndarray:
    """Returns `rows` filled up to `size`; a repeated real row is a safer filling than zeros (0 / 0)."""
    rows = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
    return np.pad(rows, (0, size - len(rows)), mode="edge")


def _take(tree: Any, rows: slice | np.ndarray) -> Any:
    return jax.tree.map(lambda array: array[rows], tree)
