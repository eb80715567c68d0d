"""Keras as the oracle: every metric with its arguments, weights, masks and edges; signatures and configs."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect
import json
import re

import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras.src.backend.common.masking import set_keras_mask

import easyflax.metrics as metrics
import tests.metrics.samples as samples
from easyflax.masks import attach_masks
from tests.metrics.samples import (
    ELEMENT_WEIGHT,
    INDICES,
    LABELS,
    PROBABILITIES,
    SAMPLES,
    SCORES,
    WEIGHT,
    halves,
)

every_sample = pytest.mark.parametrize(
    ("name", "settings", "y_true", "y_pred"), SAMPLES, ids=list(map(samples.name_of, SAMPLES))
)
pytestmark = pytest.mark.filterwarnings("ignore:.*(weights as whole|weight as `float`|dtype int64)")
NAMES = sorted(name for name in vars(keras.metrics) if not name.startswith("_"))


def _both(name, settings):
    return getattr(metrics, name)(**settings), getattr(keras.metrics, name)(**settings)


def _assert_equal(ours, theirs):
    ours, theirs = np.asarray(ours.result()), np.asarray(theirs.result())
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def _weight(name, y_true):
    """One weight a row; for each class index where Keras takes no other."""
    is_flat = name in ("IoU", "MeanIoU", "BinaryIoU") and y_true.ndim == 2
    return ELEMENT_WEIGHT[:, : y_true.shape[1]] if is_flat else WEIGHT


@every_sample
def test_the_metric_equals_kerass_with_and_without_weights(name, settings, y_true, y_pred):
    both = _both(name, settings)
    weighted, plain = halves(y_true, y_pred, _weight(name, y_true))
    for metric in both:
        metric.update_state(*weighted)
        metric.update_state(*plain[:2])
    _assert_equal(*both)
    for metric in both:
        metric.reset_state()
        metric.update_state(*plain[:2])
    _assert_equal(*both)


@pytest.mark.parametrize(
    ("name", "settings", "y_true", "y_pred"),
    [
        ("AUC", {"multi_label": True, "thresholds": [0.2, 0.4]}, LABELS, SCORES),
        ("Precision", {"thresholds": 0.3}, LABELS, SCORES),
        ("TrueNegatives", {}, LABELS, SCORES),
        ("SpecificityAtSensitivity", {"sensitivity": 0.5}, LABELS, SCORES),
        ("BinaryAccuracy", {}, LABELS, SCORES),
        ("RootMeanSquaredError", {}, LABELS, SCORES),
        ("R2Score", {}, LABELS, SCORES),
    ],
)
def test_weights_of_each_element_count_as_kerass(name, settings, y_true, y_pred):
    both = _both(name, settings)
    for metric in both:
        metric.update_state(y_true, y_pred, sample_weight=ELEMENT_WEIGHT)
    _assert_equal(*both)


@pytest.mark.parametrize("name", ["AUC", "Precision", "Recall", "F1Score", "PrecisionAtRecall", "BinaryIoU"])
@pytest.mark.parametrize("edge", ["no positives", "no negatives", "equal scores", "ties", "extremes"])
def test_edges_are_as_kerass(name, edge):
    y_true, y_pred = LABELS[:, :1].astype("float32"), SCORES[:, :1]
    if edge in ("no positives", "no negatives"):
        y_true = np.full_like(y_true, edge == "no negatives")
    if edge in ("equal scores", "extremes"):
        y_pred = np.full_like(y_pred, 0.5) if edge == "equal scores" else np.round(y_pred)
    settings = {"recall": 0.5} if name == "PrecisionAtRecall" else {}
    both = _both(name, {**settings, **({"threshold": 0.5} if name == "F1Score" else {})})
    for metric in both:
        metric.update_state(y_true, y_pred)
    _assert_equal(*both)


@pytest.mark.parametrize(
    ("curve", "summation_method"), [("ROC", "interpolation"), ("PR", "interpolation"), ("PRGAIN", "majoring")]
)
def test_areas_without_positives_or_negatives_are_as_kerass(curve, summation_method):
    for label in (0, 1):
        both = _both("AUC", {"curve": curve, "summation_method": summation_method, "num_thresholds": 11})
        for metric in both:
            metric.update_state(np.full((16, 1), label), SCORES[:, :1])
        _assert_equal(*both)


def test_a_class_that_never_occurs_is_left_out_of_the_mean_as_in_keras():
    for name, settings in (("MeanIoU", {"num_classes": 6}), ("F1Score", {"average": "macro"})):
        both = _both(name, settings)
        y_true, y_pred = (INDICES, INDICES[::-1].copy()) if name == "MeanIoU" else (LABELS, SCORES)
        if name == "F1Score":
            y_true = y_true * np.array([1, 1, 0, 1])
        for metric in both:
            metric.update_state(y_true, y_pred)
        _assert_equal(*both)


def test_an_r2_score_of_targets_that_do_not_vary_is_kerass():
    for constant in (0.0, 2.0):
        both = _both("R2Score", {"class_aggregation": None})
        targets = np.stack([np.full(16, constant), np.arange(16.0)], axis=1).astype("float32")
        for metric in both:
            metric.update_state(targets, targets + np.array([1.0, 0.5], "float32"))
        _assert_equal(*both)


@pytest.mark.parametrize("name", ["BinaryAccuracy", "MeanSquaredError", "SparseCategoricalAccuracy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_masks_count_as_weights_as_in_keras(name, weighted):
    steps = name == "SparseCategoricalAccuracy"
    y_true = np.tile(INDICES[:, None], (1, 3)) if steps else np.tile(LABELS[:, None], (1, 3, 1))
    y_pred = np.stack([SCORES, PROBABILITIES, SCORES[::-1]], axis=1)
    mask = np.arange(48).reshape(16, 3) % 5 > 1
    y_true, mask = (y_true, mask) if steps or name != "BinaryAccuracy" else (y_true[:, 0], mask[:, :1])
    y_pred = y_pred if y_true.ndim == 3 or steps else y_pred[:, 0]
    mask = np.broadcast_to(mask, y_pred.shape) if name == "BinaryAccuracy" else mask
    weight = np.broadcast_to(WEIGHT.reshape(-1, 1), mask.shape).astype("float32") if weighted else None
    both = _both(name, {})
    for metric, attach in zip(both, (attach_masks, set_keras_mask), strict=True):
        outputs = jnp.array(y_pred)
        attach(outputs, jnp.array(mask))
        metric.update_state(y_true, outputs, sample_weight=weight)
    _assert_equal(*both)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_signatures_are_kerass(name):
    ours, theirs = getattr(metrics, name), getattr(keras.metrics, name)

    def parameters(target):
        found = inspect.signature(target).parameters.values()
        return [(p.name, p.kind, p.default) for p in found if p.name not in _BESIDES.get(name, ())]

    assert parameters(ours) == parameters(theirs)


_BESIDES = {"get": ("output_shape", "y_shape", "loss")}


@every_sample
def test_configs_names_and_directions_are_kerass(name, settings, y_true, y_pred):
    del y_true, y_pred
    ours, theirs = _both(name, settings)
    theirs.name = re.sub(r"_\d+$", "", theirs.name)  # Keras counts the objects that it makes
    config = json.loads(json.dumps(keras.metrics.serialize(theirs)))
    again = metrics.deserialize(config)
    assert type(again) is type(ours)
    assert again.get_config() == ours.get_config()
    unwritten = {"axis"} if name == "CosineSimilarity" else set()  # Keras forgets it
    assert set(ours.get_config()) - unwritten == set(theirs.get_config())
    assert ours.name == theirs.name
    assert ours.direction == {"up": "max", "down": "min", None: None}[getattr(theirs, "_direction", None)]
    assert [one.name for one in ours.variables] == [one.name for one in theirs.variables]


def test_a_wrapped_function_is_read_from_kerass_config():
    theirs = keras.metrics.MeanMetricWrapper(keras.metrics.binary_accuracy, name="above", threshold=0.3)
    ours = metrics.deserialize(keras.metrics.serialize(theirs))
    assert type(ours) is metrics.MeanMetricWrapper
    for metric in (ours, theirs):
        metric.update_state(LABELS, SCORES)
    assert ours.name == "above"
    _assert_equal(ours, theirs)


@pytest.mark.parametrize("name", ["Mean", "Sum"])
@pytest.mark.parametrize("shape", [(), (16,), (16, 1), (16, 4), (16, 1, 1)])
def test_means_and_sums_take_weights_as_kerass(name, shape):
    values = SCORES[..., None] if len(shape) == 3 else SCORES if shape != (16,) else SCORES[:, 0]
    weight = np.broadcast_to(WEIGHT.reshape(-1, *[1] * (len(shape) - 1)), shape) if shape else np.float32(2)
    both = _both(name, {})
    for metric in both:
        metric.update_state(values, sample_weight=weight)
        metric.update_state(values)
        metric.update_state(3.0)
    _assert_equal(*both)
