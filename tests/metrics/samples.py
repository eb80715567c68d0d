"""Labels and outputs for every metric, with the arguments to try."""

from __future__ import annotations

from typing import Any

import numpy as np

RNG = np.random.default_rng(0)
ROWS, CLASSES = 16, 4
PROBABILITIES = RNG.dirichlet(np.ones(CLASSES), size=ROWS).astype("float32")
INDICES = RNG.integers(0, CLASSES, size=ROWS)
ONE_HOT = np.eye(CLASSES, dtype="float32")[INDICES]
BINARY = RNG.integers(0, 2, size=(ROWS, 1))
UNIT = RNG.uniform(size=(ROWS, 1)).astype("float32")
LABELS = RNG.integers(0, 2, size=(ROWS, CLASSES))
SCORES = np.round(RNG.uniform(size=(ROWS, CLASSES)), 1).astype("float32")  # with ties, also with thresholds
TARGETS, OUTPUTS = RNG.normal(size=(2, ROWS, CLASSES)).astype("float32")
PIXELS, OTHER_PIXELS = RNG.integers(0, CLASSES, size=(2, ROWS, 3))
WEIGHT = RNG.uniform(0.5, 2, size=ROWS).astype("float32")
WEIGHT[3:6] = 0
ELEMENT_WEIGHT = RNG.uniform(0, 2, size=(ROWS, CLASSES)).astype("float32")

_THRESHOLDS: list[dict[str, Any]] = [
    {},
    {"thresholds": 0.3},
    {"thresholds": [0.9, 0.2]},
    {"thresholds": [0.0, 0.5, 1.0]},
]
_OF_CLASSES: list[dict[str, Any]] = [
    {"top_k": 2},
    {"class_id": 1},
    {"top_k": 2, "class_id": 1, "thresholds": 0.3},
]
_CURVES: list[dict[str, Any]] = [
    {"curve": curve, "summation_method": method}
    for curve in ("ROC", "PR", "PRGAIN")
    for method in ("interpolation", "minoring", "majoring")
]
_COUNTS = ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives")

# What has Keras's name: arguments, labels, outputs.
SAMPLES: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("Accuracy", {}, PIXELS, OTHER_PIXELS),
    ("BinaryAccuracy", {}, BINARY, UNIT),
    ("BinaryAccuracy", {"threshold": 0.3}, LABELS, SCORES),
    ("CategoricalAccuracy", {}, ONE_HOT, PROBABILITIES),
    ("SparseCategoricalAccuracy", {}, INDICES, PROBABILITIES),
    ("SparseCategoricalAccuracy", {}, INDICES[:, None].astype("float32"), SCORES),
    ("TopKCategoricalAccuracy", {"k": 2}, ONE_HOT, SCORES),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, INDICES, SCORES),
    ("SparseTopKCategoricalAccuracy", {"k": 2, "from_sorted_ids": True}, PIXELS[:, 0], OTHER_PIXELS),
    *(("AUC", settings, BINARY, UNIT) for settings in _CURVES),
    ("AUC", {"num_thresholds": 3}, LABELS, SCORES),
    ("AUC", {"thresholds": [0.7, 0.1, 0.35]}, BINARY, UNIT),
    ("AUC", {"multi_label": True}, LABELS, SCORES),
    ("AUC", {"multi_label": True, "num_labels": CLASSES, "label_weights": [1, 2, 0, 3]}, LABELS, SCORES),
    ("AUC", {"multi_label": True, "thresholds": [0.1, 0.4], "curve": "PR"}, LABELS, SCORES),
    ("AUC", {"label_weights": [1, 2, 0, 3]}, LABELS, SCORES),
    ("AUC", {"from_logits": True}, BINARY, 6 * UNIT - 3),
    *(("TruePositives", settings, BINARY, UNIT) for settings in _THRESHOLDS),
    *((name, {"thresholds": [0.0, 0.5, 1.0]}, LABELS, SCORES) for name in _COUNTS[1:]),
    *((name, {}, LABELS, SCORES) for name in _COUNTS[1:]),
    *((name, settings, BINARY, UNIT) for name in ("Precision", "Recall") for settings in _THRESHOLDS[:3]),
    *((name, settings, ONE_HOT, SCORES) for name in ("Precision", "Recall") for settings in _OF_CLASSES),
    ("PrecisionAtRecall", {"recall": 0.6}, BINARY, UNIT),
    ("RecallAtPrecision", {"precision": 0.6}, BINARY, UNIT),
    ("SensitivityAtSpecificity", {"specificity": 0.6, "class_id": 2}, LABELS, SCORES),
    ("SpecificityAtSensitivity", {"sensitivity": 0.6, "num_thresholds": 1}, BINARY, UNIT),
    *(("FBetaScore", {"average": average, "beta": 2.0}, ONE_HOT, SCORES) for average in (None, "micro")),
    *(
        ("F1Score", {"average": average, "threshold": 0.4}, LABELS, SCORES)
        for average in (None, "macro", "weighted")
    ),
    ("IoU", {"num_classes": CLASSES, "target_class_ids": [0, 2]}, PIXELS, OTHER_PIXELS),
    ("IoU", {"num_classes": 6, "target_class_ids": [0, 5], "ignore_class": 1}, PIXELS, OTHER_PIXELS),
    ("BinaryIoU", {"target_class_ids": [1], "threshold": 0.4, "dtype": "float32"}, LABELS, SCORES),
    ("MeanIoU", {"num_classes": CLASSES, "dtype": "float32"}, PIXELS, OTHER_PIXELS),
    ("MeanIoU", {"num_classes": CLASSES, "sparse_y_pred": False, "ignore_class": 0}, INDICES, SCORES),
    ("OneHotIoU", {"num_classes": CLASSES, "target_class_ids": [1]}, ONE_HOT, SCORES),
    ("OneHotMeanIoU", {"num_classes": CLASSES, "sparse_y_pred": True}, ONE_HOT, PIXELS[:, 0]),
    ("MeanSquaredError", {}, TARGETS, OUTPUTS),
    ("RootMeanSquaredError", {}, TARGETS, OUTPUTS),
    ("MeanAbsoluteError", {}, TARGETS, OUTPUTS),
    ("MeanAbsolutePercentageError", {}, TARGETS, OUTPUTS),
    ("MeanSquaredLogarithmicError", {}, np.abs(TARGETS), np.abs(OUTPUTS)),
    ("LogCoshError", {}, TARGETS, OUTPUTS),
    ("CosineSimilarity", {}, TARGETS, OUTPUTS),
    ("R2Score", {}, TARGETS, OUTPUTS),
    ("R2Score", {"class_aggregation": None, "num_regressors": 2}, TARGETS, OUTPUTS),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, TARGETS, OUTPUTS),
    ("PearsonCorrelation", {}, TARGETS, OUTPUTS),
    ("ConcordanceCorrelation", {}, TARGETS, OUTPUTS),
    ("Hinge", {}, LABELS, OUTPUTS),
    ("SquaredHinge", {}, LABELS, OUTPUTS),
    ("CategoricalHinge", {}, ONE_HOT, OUTPUTS),
    ("KLDivergence", {}, ONE_HOT, PROBABILITIES),
    ("Poisson", {}, np.abs(TARGETS), np.abs(OUTPUTS)),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, LABELS, SCORES),
    ("BinaryCrossentropy", {"from_logits": True}, LABELS, OUTPUTS),
    ("CategoricalCrossentropy", {}, ONE_HOT, PROBABILITIES),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, INDICES, OUTPUTS),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1}, INDICES, PROBABILITIES),
]


def name_of(sample: tuple[str, dict[str, Any], Any, Any]) -> str:
    """A test id for a sample."""
    name, settings, y_true, y_pred = sample
    shapes = "x".join(map(str, (*y_true.shape[1:], "to", *y_pred.shape[1:])))
    return "-".join([name, *(f"{key}={value}" for key, value in settings.items()), shapes])


def halves(*arrays: Any) -> list[list[Any]]:
    """The arrays in two batches of half the rows; None stays None."""
    half = ROWS // 2
    return [[None if a is None else a[part] for a in arrays] for part in (slice(half), slice(half, None))]
