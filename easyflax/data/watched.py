"""A source whose batches somebody looks at, on their way into training."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from easyflax.data.row_source import RowSource
from easyflax.data.source import Batch, Source

__all__ = ["WatchedSource", "rebatched"]


class WatchedSource:
    """A `Source` that shows each batch of an epoch before it gives it away.

    Args:
        inner: the source.
        see: called with the number of the epoch, that of the batch in it, from 0, and the batch.
    """

    def __init__(self, inner: Source, see: Callable[[int, int, Batch], None]):
        self.inner = inner
        self.see = see

    @property
    def data(self) -> Batch | None:
        """All rows, where they are arrays in memory."""
        return getattr(self.inner, "data", None)

    @property
    def batch_size(self) -> int:
        """Rows of a full batch."""
        return self.inner.batch_size

    @property
    def num_rows(self) -> int | None:
        """Rows of one pass; None when unknown."""
        return self.inner.num_rows

    @property
    def num_batches(self) -> int | None:
        """Batches of one pass; None when unknown or without end."""
        return self.inner.num_batches

    @property
    def is_exhausted(self) -> bool:
        """Whether the data ended and cannot be read again."""
        return self.inner.is_exhausted

    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch, see `Source.epoch`."""
        batches = self.inner.epoch(number, steps)
        try:
            for count, batch in enumerate(batches):
                self.see(number, count, batch)
                yield batch
        finally:
            batches.close()

    def first_batch(self) -> Batch:
        """Returns one batch, which nobody is shown."""
        return self.inner.first_batch()

    def state(self) -> Any:
        """Returns the place in the data."""
        return self.inner.state()

    def set_state(self, state: Any) -> None:
        """Goes on in the data where `state` was taken."""
        self.inner.set_state(state)


def rebatched(source: Source, batch_size: int) -> Source | None:
    """Returns a source of the same rows in batches of another size; None for data in batches of their own."""
    if isinstance(source, WatchedSource):
        inner = rebatched(source.inner, batch_size)
        return None if inner is None else WatchedSource(inner, source.see)
    return source.rebatched(batch_size) if isinstance(source, RowSource) else None
