"""What a batch is, and what the training loop asks of anything that yields batches."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol


class Batch(NamedTuple):
    """The rows of one step: a pytree, so it goes into the jitted step as it is.

    Attributes:
        x: inputs, any nesting of arrays whose first axis is the rows.
        y: targets, likewise, or None.
        sample_weight: how much rows or elements count: `(rows,)`, more axes of the targets, or a nesting of
            such arrays like that of `y`; None: all count alike.
        mask: `(rows,)` bool, True where a row is real and False where it is padding; None: all rows are real.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    mask: Any = None


class Source(Protocol):
    """Batches by epoch; made by `as_source` from whatever holds the data."""

    @property
    def batch_size(self) -> int:
        """Rows of a full batch; of a stream, those of its first batch."""
        ...

    @property
    def num_rows(self) -> int | None:
        """Rows of one pass; None when unknown."""
        ...

    @property
    def num_batches(self) -> int | None:
        """Batches of one pass; None when unknown or without end."""
        ...

    @property
    def is_exhausted(self) -> bool:
        """Whether the data ended and cannot be read again, so that a further epoch would be empty.

        To be asked before an epoch only: it may read one batch, with which that epoch then begins.
        """
        ...

    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch.

        Args:
            number: of the epoch, from 0.
            steps: batches of an epoch, each of which goes on in the data where the one before it ended; fewer
                come if the data end for good. None: one whole pass.
        """
        ...

    def first_batch(self) -> Batch:
        """Returns one batch to learn structure, shapes and dtypes from; it consumes nothing."""
        ...

    def state(self) -> Any:
        """Returns what `set_state` needs to go on in the data after the last batch that was given.

        None where the number of the epoch says it all.
        """
        ...

    def set_state(self, state: Any) -> None:
        """Goes on in the data where `state` was taken, from a source over the same data."""
        ...


def check_no_state(state: Any) -> None:
    """Raises unless `state` is None, as it is for data whose place follows from the number of the epoch."""
    if state is not None:
        raise ValueError(
            f"The state of the data is a {type(state).__name__}, expected None for data that are read by "
            f"numbers. Pass the data that it was taken of."
        )
