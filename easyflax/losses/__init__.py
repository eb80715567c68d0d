"""Losses under Keras's names, as classes and as functions, and `get`, which finds them by name."""

from __future__ import annotations

from easyflax.losses.base import Loss as Loss
from easyflax.losses.binary import BinaryCrossentropy as BinaryCrossentropy
from easyflax.losses.binary import BinaryFocalCrossentropy as BinaryFocalCrossentropy
from easyflax.losses.binary import binary_crossentropy as binary_crossentropy
from easyflax.losses.binary import binary_focal_crossentropy as binary_focal_crossentropy
from easyflax.losses.categorical import CategoricalCrossentropy as CategoricalCrossentropy
from easyflax.losses.categorical import CategoricalFocalCrossentropy as CategoricalFocalCrossentropy
from easyflax.losses.categorical import categorical_crossentropy as categorical_crossentropy
from easyflax.losses.categorical import categorical_focal_crossentropy as categorical_focal_crossentropy
from easyflax.losses.distributions import CosineSimilarity as CosineSimilarity
from easyflax.losses.distributions import KLDivergence as KLDivergence
from easyflax.losses.distributions import cosine_similarity as cosine_similarity
from easyflax.losses.distributions import kl_divergence as kl_divergence
from easyflax.losses.embeddings import Circle as Circle
from easyflax.losses.embeddings import circle as circle
from easyflax.losses.margins import CategoricalHinge as CategoricalHinge
from easyflax.losses.margins import Hinge as Hinge
from easyflax.losses.margins import SquaredHinge as SquaredHinge
from easyflax.losses.margins import categorical_hinge as categorical_hinge
from easyflax.losses.margins import hinge as hinge
from easyflax.losses.margins import squared_hinge as squared_hinge
from easyflax.losses.overlap import Dice as Dice
from easyflax.losses.overlap import Tversky as Tversky
from easyflax.losses.overlap import dice as dice
from easyflax.losses.overlap import tversky as tversky
from easyflax.losses.registry import as_loss as as_loss
from easyflax.losses.registry import check as check
from easyflax.losses.registry import deserialize as deserialize
from easyflax.losses.registry import get as get
from easyflax.losses.registry import known_names as known_names
from easyflax.losses.registry import serialize as serialize
from easyflax.losses.regression import Huber as Huber
from easyflax.losses.regression import LogCosh as LogCosh
from easyflax.losses.regression import MeanAbsoluteError as MeanAbsoluteError
from easyflax.losses.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from easyflax.losses.regression import MeanSquaredError as MeanSquaredError
from easyflax.losses.regression import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from easyflax.losses.regression import Poisson as Poisson
from easyflax.losses.regression import huber as huber
from easyflax.losses.regression import log_cosh as log_cosh
from easyflax.losses.regression import mean_absolute_error as mean_absolute_error
from easyflax.losses.regression import mean_absolute_percentage_error as mean_absolute_percentage_error
from easyflax.losses.regression import mean_squared_error as mean_squared_error
from easyflax.losses.regression import mean_squared_logarithmic_error as mean_squared_logarithmic_error
from easyflax.losses.regression import poisson as poisson
from easyflax.losses.sequences import CTC as CTC
from easyflax.losses.sequences import ctc as ctc
from easyflax.losses.sparse import CategoricalGeneralizedCrossEntropy as CategoricalGeneralizedCrossEntropy
from easyflax.losses.sparse import SparseCategoricalCrossentropy as SparseCategoricalCrossentropy
from easyflax.losses.sparse import (
    categorical_generalized_cross_entropy as categorical_generalized_cross_entropy,
)
from easyflax.losses.sparse import sparse_categorical_crossentropy as sparse_categorical_crossentropy

__all__ = [
    "CTC",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "Circle",
    "CosineSimilarity",
    "Dice",
    "Hinge",
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
    "SquaredHinge",
    "Tversky",
    "as_loss",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "check",
    "circle",
    "cosine_similarity",
    "ctc",
    "deserialize",
    "dice",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "known_names",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]
