"""Metrics under Keras's names, and `get`, which finds them by name and shapes."""

from __future__ import annotations

from easyflax.metrics.accuracy import Accuracy as Accuracy
from easyflax.metrics.accuracy import BinaryAccuracy as BinaryAccuracy
from easyflax.metrics.accuracy import CategoricalAccuracy as CategoricalAccuracy
from easyflax.metrics.accuracy import SparseCategoricalAccuracy as SparseCategoricalAccuracy
from easyflax.metrics.accuracy import SparseTopKCategoricalAccuracy as SparseTopKCategoricalAccuracy
from easyflax.metrics.accuracy import TopKCategoricalAccuracy as TopKCategoricalAccuracy
from easyflax.metrics.base import Metric as Metric
from easyflax.metrics.reduction import Mean as Mean
from easyflax.metrics.reduction import MeanMetricWrapper as MeanMetricWrapper
from easyflax.metrics.reduction import Sum as Sum
from easyflax.metrics.registry import check as check
from easyflax.metrics.registry import get as get
from easyflax.metrics.regression import MeanAbsoluteError as MeanAbsoluteError
from easyflax.metrics.regression import MeanSquaredError as MeanSquaredError

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "Mean",
    "MeanAbsoluteError",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "Metric",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "Sum",
    "TopKCategoricalAccuracy",
    "check",
    "get",
]
