"""What a batch is, and what the training loop asks of anything that yields batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol


class Batch(NamedTuple):
    """The rows of one step: a pytree, so it goes into the jitted step as it is.

    Attributes:
        x: inputs, any nesting of arrays whose first axis is the rows.
        y: targets, likewise, or None.
        mask: `(rows,)` bool, True where a row is real and False where it is padding; None: all rows are real.
    """

    x: Any
    y: Any = None
    mask: Any = None


class Source(Protocol):
    """Batches by number: `0` is the first of the first pass over the data, numbering never starts anew."""

    @property
    def batch_size(self) -> int:
        """Rows of a full batch."""
        ...

    @property
    def num_rows(self) -> int | None:
        """Rows of one pass; None when unknown."""
        ...

    @property
    def num_batches(self) -> int | None:
        """Batches of one pass; None when unknown or without end."""
        ...

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yields the batches numbered `start` to `stop - 1`, of as many passes as that takes."""
        ...

    def real_rows(self, position: int) -> int:
        """Returns how many rows of batch `position` are real, padding not counted."""
        ...

    def first_batch(self) -> Batch:
        """Returns one batch to learn structure, shapes and dtypes from; it consumes nothing."""
        ...
