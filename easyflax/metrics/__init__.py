"""Metrics under Keras's names, and `get`, which finds them by name and shapes."""

from __future__ import annotations

from easyflax.metrics.accuracy import BinaryAccuracy as BinaryAccuracy
from easyflax.metrics.accuracy import CategoricalAccuracy as CategoricalAccuracy
from easyflax.metrics.accuracy import SparseCategoricalAccuracy as SparseCategoricalAccuracy
from easyflax.metrics.accuracy import SparseTopKCategoricalAccuracy as SparseTopKCategoricalAccuracy
from easyflax.metrics.accuracy import TopKCategoricalAccuracy as TopKCategoricalAccuracy
from easyflax.metrics.base import Mean as Mean
from easyflax.metrics.base import Metric as Metric
from easyflax.metrics.base import RowMetric as RowMetric
from easyflax.metrics.registry import check as check
from easyflax.metrics.registry import get as get
from easyflax.metrics.regression import MeanAbsoluteError as MeanAbsoluteError
from easyflax.metrics.regression import MeanSquaredError as MeanSquaredError

__all__ = [
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "RowMetric",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "check",
    "get",
]
