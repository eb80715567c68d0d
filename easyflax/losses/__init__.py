"""Losses under Keras's names, and `get`, which finds them by name."""

from __future__ import annotations

from easyflax.losses.base import Loss as Loss
from easyflax.losses.probabilistic import BinaryCrossentropy as BinaryCrossentropy
from easyflax.losses.probabilistic import CategoricalCrossentropy as CategoricalCrossentropy
from easyflax.losses.probabilistic import KLDivergence as KLDivergence
from easyflax.losses.probabilistic import Poisson as Poisson
from easyflax.losses.probabilistic import SparseCategoricalCrossentropy as SparseCategoricalCrossentropy
from easyflax.losses.registry import get as get
from easyflax.losses.registry import known_names as known_names
from easyflax.losses.regression import Huber as Huber
from easyflax.losses.regression import LogCosh as LogCosh
from easyflax.losses.regression import MeanAbsoluteError as MeanAbsoluteError
from easyflax.losses.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from easyflax.losses.regression import MeanSquaredError as MeanSquaredError
from easyflax.losses.regression import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "get",
    "known_names",
]
