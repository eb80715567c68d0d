"""Logs that stay on the device until somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import jax

from easyflax.train.state import Health
from easyflax.train.step import Report


class BatchLogs(MutableMapping[str, Any]):
    """The logs of one step: a mapping from names to Python floats, fetched all at once when first read.

    Args:
        report: what the step left on the device.
        check: called with the fetched health of a training step; raises when the loss is not finite.
    """

    def __init__(self, report: Report, check: Callable[[Health], None] | None = None):
        self._report = report
        self._check = check
        self._values: dict[str, Any] | None = None

    def is_ready(self) -> bool:
        """Says whether the step has finished, so that reading would not wait."""
        values: Any = self._report.values.values()  # jax.Array does not declare is_ready
        return all(value.is_ready() for value in values)

    def fetch(self) -> dict[str, Any]:
        """Returns the logs as a dict; waits for the step."""
        if self._values is None:
            report = jax.device_get(self._report)
            if self._check is not None and report.health is not None:
                self._check(report.health)
            self._values = {name: as_python(value) for name, value in report.values.items()}
        return self._values

    def copy(self) -> dict[str, Any]:
        """Returns the logs as a plain dict."""
        return dict(self.fetch())

    def __getitem__(self, name: str) -> Any:
        return self.fetch()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.fetch()[name] = value

    def __delitem__(self, name: str) -> None:
        del self.fetch()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fetch())

    def __len__(self) -> int:
        return len(self.fetch())

    def __repr__(self) -> str:
        return repr(self.fetch())


def as_python(value: Any) -> Any:
    """Returns a Python float for a scalar; a metric with several entries stays an array."""
    return float(value) if value.ndim == 0 else value


def in_keras_order(logs: dict[str, Any]) -> dict[str, Any]:
    """Returns the logs sorted by name, the order in which Keras 3 hands them on and History keeps them."""
    return dict(sorted(logs.items()))
