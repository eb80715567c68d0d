"""What training needs besides a model: the optimizer, and metrics that accumulate over batches."""

from __future__ import annotations

from easyflax.nnx.training import metrics, optimizer
from easyflax.nnx.training.metrics import (
    Accuracy,
    Average,
    Metric,
    MetricState,
    MultiMetric,
    Statistics,
    Welford,
)
from easyflax.nnx.training.optimizer import ModelAndOptimizer, OptArray, Optimizer, OptState, OptVariable
from easyflax.nnx.training.train_state import TrainState

__all__ = [
    "Accuracy",
    "Average",
    "Metric",
    "MetricState",
    "ModelAndOptimizer",
    "MultiMetric",
    "OptArray",
    "OptState",
    "OptVariable",
    "Optimizer",
    "Statistics",
    "TrainState",
    "Welford",
    "metrics",
    "optimizer",
]
