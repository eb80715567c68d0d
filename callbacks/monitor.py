"""A logged value that a callback goes by, and what counts as better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from easyflax.errors import unknown_name_message

__all__ = ["Monitor"]

_MODES = ("auto", "min", "max")


class Monitor:
    """One name in the logs and its direction.

    Args:
        owner: the callback's name, for messages.
        name: the name in the logs, such as `"val_loss"`.
        mode: `"min"` if less is better, `"max"` if more is; `"auto"` asks the model's metrics.
        min_delta: how much better a value must be to count; its sign does not matter.
        strict: whether logs without the name are an error.

    Raises:
        ValueError: the mode is unknown.
    """

    def __init__(
        self, owner: str, name: str, mode: str = "auto", min_delta: float = 0.0, *, strict: bool = True
    ):
        if mode not in _MODES:
            raise ValueError(f"{owner}: {unknown_name_message('mode', mode, _MODES)}")
        self.owner = owner
        self.name = name
        self.mode = mode
        self.min_delta = abs(min_delta)
        self.strict = strict

    def value(self, logs: Mapping[str, Any], *, validates: bool) -> float | None:
        """Returns the value in the logs; None after an epoch without validation in a fit that has some,
        or where the callback is not strict and there is no such name.

        Args:
            logs: of an epoch or a batch.
            validates: whether the fit validates at all, if not after every epoch.

        Raises:
            ValueError: the logs have no such name; the message lists those that they have.
        """
        if self.name in logs:
            return float(logs[self.name])
        is_validation = self.name.startswith("val_")
        if is_validation and validates and not any(name.startswith("val_") for name in logs):
            return None
        if not self.strict:
            return None
        message = f"{self.owner}: {unknown_name_message('monitor', self.name, logs)}"
        if is_validation and not validates:
            message += " Names with val_ need validation_data or validation_split in fit."
        raise ValueError(message)

    def is_better(self, value: float, reference: float | None, metrics: Iterable[Any]) -> bool:
        """Returns whether `value` beats `reference`; every value beats None.

        Args:
            value: the new value.
            reference: the value to beat.
            metrics: the model's metrics, which know their directions.

        Raises:
            ValueError: the mode is `"auto"` and nobody knows the direction.
        """
        is_max = self.direction(metrics) == "max"
        if reference is None:
            return True
        with np.errstate(over="ignore"):  # as Keras compares: 0.7 and 0.1 together are no less than 0.8
            least = np.float32(value - self.min_delta if is_max else value + self.min_delta)
            return bool(least > np.float32(reference) if is_max else least < np.float32(reference))

    def direction(self, metrics: Iterable[Any]) -> str:
        """Returns `"min"` or `"max"`.

        Args:
            metrics: the model's metrics, which know their directions.

        Raises:
            ValueError: the mode is `"auto"` and nobody knows the direction.
        """
        if self.mode != "auto":
            return self.mode
        name = self.name.removeprefix("val_")
        known = {metric.name: metric.direction for metric in metrics}
        direction = "min" if name == "loss" else known.get(name)
        if direction is None:
            raise ValueError(
                f"{self.owner}: mode='auto' cannot tell whether {self.name!r} should rise or fall, expected "
                "the loss or a metric with a direction. Pass mode='min' or mode='max'."
            )
        return direction
