"""Metrics for continuous targets, under Keras's names: losses averaged over rows."""

from __future__ import annotations

import easyflax.losses as losses
from easyflax.metrics.base import LossMetric

__all__ = ["MeanAbsoluteError", "MeanSquaredError"]


class MeanAbsoluteError(LossMetric):
    """The mean of `|y_true - y_pred|`."""

    def __init__(self, name: str | None = None):
        super().__init__(losses.MeanAbsoluteError(), name)


class MeanSquaredError(LossMetric):
    """The mean of `(y_true - y_pred) ** 2`."""

    def __init__(self, name: str | None = None):
        super().__init__(losses.MeanSquaredError(), name)
