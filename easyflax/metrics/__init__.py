"""Metrics under Keras's names, as classes and as functions, and `get`, which finds them by name."""

from __future__ import annotations

from easyflax.losses.binary import binary_crossentropy as binary_crossentropy
from easyflax.losses.binary import binary_focal_crossentropy as binary_focal_crossentropy
from easyflax.losses.categorical import categorical_crossentropy as categorical_crossentropy
from easyflax.losses.categorical import categorical_focal_crossentropy as categorical_focal_crossentropy
from easyflax.losses.distributions import kl_divergence as kl_divergence
from easyflax.losses.margins import categorical_hinge as categorical_hinge
from easyflax.losses.margins import hinge as hinge
from easyflax.losses.margins import squared_hinge as squared_hinge
from easyflax.losses.regression import huber as huber
from easyflax.losses.regression import log_cosh as log_cosh
from easyflax.losses.regression import mean_absolute_error as mean_absolute_error
from easyflax.losses.regression import mean_absolute_percentage_error as mean_absolute_percentage_error
from easyflax.losses.regression import mean_squared_error as mean_squared_error
from easyflax.losses.regression import mean_squared_logarithmic_error as mean_squared_logarithmic_error
from easyflax.losses.regression import poisson as poisson
from easyflax.losses.sparse import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from easyflax.metrics.accuracy import Accuracy as Accuracy
from easyflax.metrics.accuracy import BinaryAccuracy as BinaryAccuracy
from easyflax.metrics.accuracy import CategoricalAccuracy as CategoricalAccuracy
from easyflax.metrics.accuracy import SparseCategoricalAccuracy as SparseCategoricalAccuracy
from easyflax.metrics.accuracy import SparseTopKCategoricalAccuracy as SparseTopKCategoricalAccuracy
from easyflax.metrics.accuracy import TopKCategoricalAccuracy as TopKCategoricalAccuracy
from easyflax.metrics.accuracy import binary_accuracy as binary_accuracy
from easyflax.metrics.accuracy import categorical_accuracy as categorical_accuracy
from easyflax.metrics.accuracy import sparse_categorical_accuracy as sparse_categorical_accuracy
from easyflax.metrics.accuracy import sparse_top_k_categorical_accuracy as sparse_top_k_categorical_accuracy
from easyflax.metrics.accuracy import top_k_categorical_accuracy as top_k_categorical_accuracy
from easyflax.metrics.auc import AUC as AUC
from easyflax.metrics.base import Metric as Metric
from easyflax.metrics.confusion_matrix import ConfusionMatrix as ConfusionMatrix
from easyflax.metrics.correlation import ConcordanceCorrelation as ConcordanceCorrelation
from easyflax.metrics.correlation import PearsonCorrelation as PearsonCorrelation
from easyflax.metrics.correlation import concordance_correlation as concordance_correlation
from easyflax.metrics.correlation import pearson_correlation as pearson_correlation
from easyflax.metrics.f_score import F1Score as F1Score
from easyflax.metrics.f_score import FBetaScore as FBetaScore
from easyflax.metrics.iou import BinaryIoU as BinaryIoU
from easyflax.metrics.iou import IoU as IoU
from easyflax.metrics.iou import MeanIoU as MeanIoU
from easyflax.metrics.iou import OneHotIoU as OneHotIoU
from easyflax.metrics.iou import OneHotMeanIoU as OneHotMeanIoU
from easyflax.metrics.margins import CategoricalHinge as CategoricalHinge
from easyflax.metrics.margins import Hinge as Hinge
from easyflax.metrics.margins import SquaredHinge as SquaredHinge
from easyflax.metrics.operating_point import PrecisionAtRecall as PrecisionAtRecall
from easyflax.metrics.operating_point import RecallAtPrecision as RecallAtPrecision
from easyflax.metrics.operating_point import SensitivityAtSpecificity as SensitivityAtSpecificity
from easyflax.metrics.operating_point import SpecificityAtSensitivity as SpecificityAtSensitivity
from easyflax.metrics.perplexity import Perplexity as Perplexity
from easyflax.metrics.probabilistic import BinaryCrossentropy as BinaryCrossentropy
from easyflax.metrics.probabilistic import CategoricalCrossentropy as CategoricalCrossentropy
from easyflax.metrics.probabilistic import KLDivergence as KLDivergence
from easyflax.metrics.probabilistic import Poisson as Poisson
from easyflax.metrics.probabilistic import SparseCategoricalCrossentropy as SparseCategoricalCrossentropy
from easyflax.metrics.r2_score import R2Score as R2Score
from easyflax.metrics.reduction import Mean as Mean
from easyflax.metrics.reduction import MeanMetricWrapper as MeanMetricWrapper
from easyflax.metrics.reduction import Sum as Sum
from easyflax.metrics.registry import check as check
from easyflax.metrics.registry import deserialize as deserialize
from easyflax.metrics.registry import get as get
from easyflax.metrics.registry import serialize as serialize
from easyflax.metrics.regression import CosineSimilarity as CosineSimilarity
from easyflax.metrics.regression import LogCoshError as LogCoshError
from easyflax.metrics.regression import MeanAbsoluteError as MeanAbsoluteError
from easyflax.metrics.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from easyflax.metrics.regression import MeanSquaredError as MeanSquaredError
from easyflax.metrics.regression import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from easyflax.metrics.regression import RootMeanSquaredError as RootMeanSquaredError
from easyflax.metrics.thresholded import FalseNegatives as FalseNegatives
from easyflax.metrics.thresholded import FalsePositives as FalsePositives
from easyflax.metrics.thresholded import Precision as Precision
from easyflax.metrics.thresholded import Recall as Recall
from easyflax.metrics.thresholded import TrueNegatives as TrueNegatives
from easyflax.metrics.thresholded import TruePositives as TruePositives

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "BinaryIoU",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "ConcordanceCorrelation",
    "ConfusionMatrix",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "Hinge",
    "IoU",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanIoU",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "OneHotIoU",
    "OneHotMeanIoU",
    "PearsonCorrelation",
    "Perplexity",
    "Poisson",
    "Precision",
    "PrecisionAtRecall",
    "R2Score",
    "Recall",
    "RecallAtPrecision",
    "RootMeanSquaredError",
    "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity",
    "SquaredHinge",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "binary_accuracy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "check",
    "concordance_correlation",
    "deserialize",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "pearson_correlation",
    "poisson",
    "serialize",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "squared_hinge",
    "top_k_categorical_accuracy",
]
