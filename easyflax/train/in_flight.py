"""Bounds how many steps are dispatched and unfinished, where the runtime does not do it itself."""

from __future__ import annotations

from collections import deque
from typing import Any

import jax

from easyflax.distribution import DataParallel


class InFlight:
    """Waits for an old step when too many are under way; see `DataParallel.steps_in_flight`."""

    def __init__(self, layout: DataParallel):
        self._limit = layout.steps_in_flight
        self._results: deque[Any] = deque()

    def add(self, result: Any) -> None:
        """Notes a step by something that it leaves on the device and nobody donates."""
        if self._limit is None:
            return
        self._results.append(result)
        if len(self._results) > self._limit:
            jax.block_until_ready(self._results.popleft())
