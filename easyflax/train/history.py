"""The record of a fit: what `fit` returns."""

from __future__ import annotations

from typing import Any

from easyflax.train.callback import Callback


class History(Callback):
    """Keeps the logs of every epoch.

    Attributes:
        history: for each name in the logs, a list of Python floats, one an epoch.
        epoch: the numbers of the epochs, from 0 (or `initial_epoch`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Appends the epoch's logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        return f"History(epochs={len(self.epoch)}, keys={list(self.history)})"
