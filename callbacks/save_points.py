"""After which epochs and batches something is saved."""

from __future__ import annotations

from typing import Any

__all__ = ["SavePoints", "check_count"]


class SavePoints:
    """Says when a save is due; batches are counted across epochs.

    Args:
        owner: the callback's name, for messages.
        save_freq: `"epoch"`, or a number of batches.

    Raises:
        ValueError: it is neither.
    """

    def __init__(self, owner: str, save_freq: str | int):
        if save_freq != "epoch":
            check_count(owner, "save_freq", save_freq, "'epoch' or a number of batches of at least one")
        self._every = 0 if save_freq == "epoch" else int(save_freq)
        self._since_save = 0
        self._last_batch = -1

    @property
    def are_batches(self) -> bool:
        """Whether batches are counted, not epochs."""
        return self._every > 0

    def begin(self) -> None:
        """Notes that training begins; what was counted before goes on."""
        self._last_batch = -1

    def next_due(self, batch: int) -> int | None:
        """Returns after which batch a save is due if the batch with this number comes next; None if never."""
        if not self._every:
            return None
        counted = self._last_batch if batch > self._last_batch else -1
        return counted + self._every - self._since_save

    def is_due(self, batch: int) -> bool:
        """Counts on to a batch, by its number in its epoch; says whether to save after it."""
        # Hooks may be called for every n-th batch only; a smaller number is in a new epoch.
        self._since_save += batch + 1 if batch <= self._last_batch else batch - self._last_batch
        self._last_batch = batch
        if self._since_save < self._every:
            return False
        self._since_save = 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """Returns what was counted."""
        return {"since_save": self._since_save, "last_batch": self._last_batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on counting where `state` was taken."""
        self._since_save, self._last_batch = state["since_save"], state["last_batch"]


def check_count(owner: str, name: str, value: Any, expected: str) -> None:
    """Raises unless `value` is an integer of at least one.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{owner}: {name} is {value!r}, expected {expected}. Pass for example {name}=1.")
