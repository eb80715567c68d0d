"""How often something is logged: after epochs only, or also after every so many batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["BatchCounter", "check_update_freq"]


def check_update_freq(owner: str, update_freq: str | int) -> int:
    """Returns after how many batches something is logged, 0 for after epochs only.

    Args:
        owner: the callback's name, for messages.
        update_freq: `"epoch"`, `"batch"`, or a number of batches.

    Raises:
        ValueError: it is none of these.

    Examples:
        >>> [check_update_freq("TensorBoard", freq) for freq in ("epoch", "batch", 100)]
        [0, 1, 100]
    """
    if update_freq in ("epoch", "batch"):
        return int(update_freq == "batch")
    if isinstance(update_freq, bool) or not isinstance(update_freq, int) or update_freq < 1:
        raise ValueError(
            f"{owner}: update_freq is {update_freq!r}, expected 'epoch', 'batch' or a number of batches of "
            f"at least one. Pass one of these."
        )
    return update_freq


class BatchCounter:
    """Counts batches across epochs, also where hooks are called once for several.

    Args:
        every: batches from one to the next that is due; 0 for none.

    Attributes:
        total: batches so far.

    Examples:
        >>> counter = BatchCounter(every=3)
        >>> [counter.is_due(batch) for batch in range(6)], counter.total
        ([False, False, True, False, False, True], 6)
        >>> counter.start_epoch()
        >>> counter.is_due(3)  # the first four batches of an epoch, in one execution
        True
    """

    def __init__(self, every: int):
        self.every = every
        self.start()

    def start(self) -> None:
        """Starts a run."""
        self.total = 0
        self.start_epoch()

    def start_epoch(self) -> None:
        """Starts an epoch, in which batches are numbered from 0 again."""
        self._next = 0

    def state(self) -> dict[str, int]:
        """Returns where the run is, for `restore`."""
        return {"batches": self.total, "batches_of_epoch": self._next}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken, be it within an epoch."""
        self.total, self._next = int(state["batches"]), int(state["batches_of_epoch"])

    def next_due(self, batch: int) -> int | None:
        """Returns which batch is due if the one with this number in its epoch comes next; None if none is."""
        if not self.every:
            return None
        before = self.total + max(batch - self._next, 0)
        return batch + self.every - 1 - before % self.every

    def at_step(self, batch: int, step_needed: Callable[[int], int | None]) -> int | None:
        """Returns which batch of the epoch is the step that is needed next, None if none is.

        Args:
            batch: the number in its epoch of the batch that comes next.
            step_needed: returns the step that is needed, given the one that comes next, both counted from 1.
        """
        step = self.total + max(batch - self._next, 0) + 1
        needed = step_needed(step)
        return None if needed is None else batch + needed - step

    def is_due(self, batch: int) -> bool:
        """Counts on to a batch, given its number in the epoch; says whether one was due on the way."""
        before, self.total = self.total, self.total + max(batch + 1 - self._next, 0)
        self._next = batch + 1
        return bool(self.every) and self.total // self.every > before // self.every
