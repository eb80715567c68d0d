"""Metrics for continuous targets, under Keras's names."""

from __future__ import annotations

from typing import Any

import easyflax.losses as losses
from easyflax.metrics.reduction import LossMetric

__all__ = ["MeanAbsoluteError", "MeanSquaredError"]


class MeanSquaredError(LossMetric):
    """The mean of `(y_true - y_pred) ** 2`."""

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None):
        super().__init__(losses.MeanSquaredError(), name, dtype)


class MeanAbsoluteError(LossMetric):
    """The mean of `|y_true - y_pred|`."""

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None):
        super().__init__(losses.MeanAbsoluteError(), name, dtype)
