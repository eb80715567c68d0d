"""What training needs besides a model: optimizers, averages of parameters, and metrics that accumulate over
batches."""

from __future__ import annotations

from easyflax.nnx.training import ema, metrics, optimizer
from easyflax.nnx.training.ema import EMA
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
from easyflax.nnx.training.partition import MultiTransformState, multi_transform
from easyflax.nnx.training.train_state import TrainState

__all__ = [
    "EMA",
    "Accuracy",
    "Average",
    "Metric",
    "MetricState",
    "ModelAndOptimizer",
    "MultiMetric",
    "MultiTransformState",
    "OptArray",
    "OptState",
    "OptVariable",
    "Optimizer",
    "Statistics",
    "TrainState",
    "Welford",
    "ema",
    "metrics",
    "multi_transform",
    "optimizer",
]
