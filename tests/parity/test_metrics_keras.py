"""Keras as the oracle: the same metrics over several ragged batches, with and without weights."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest
from keras.src.trainers.compile_utils import get_metric

import easyflax.losses as losses
import easyflax.metrics as metrics

RNG = np.random.default_rng(0)
ROWS, CLASSES = 23, 7
PROBABILITIES = RNG.dirichlet(np.ones(CLASSES), size=ROWS).astype("float32")
TIES = np.round(PROBABILITIES, 1)
INDICES = RNG.integers(0, CLASSES, size=ROWS)
ONE_HOT = np.eye(CLASSES, dtype="float32")[INDICES]
UNIT = RNG.uniform(size=(ROWS, 1)).astype("float32")
BINARY = RNG.integers(0, 2, size=(ROWS, 1))

CASES = [
    ("accuracy", INDICES, PROBABILITIES),
    ("accuracy", INDICES[:, None], PROBABILITIES),
    ("acc", ONE_HOT, PROBABILITIES),
    ("accuracy", BINARY, UNIT),
    ("accuracy", BINARY[:, 0], UNIT),
    ("accuracy", INDICES, TIES),
    ("accuracy", INDICES.reshape(23, 1)[:, [0, 0]], np.stack([PROBABILITIES, TIES], axis=1)),
    ("binary_accuracy", BINARY, UNIT),
    ("categorical_accuracy", ONE_HOT, PROBABILITIES),
    ("sparse_categorical_accuracy", INDICES, PROBABILITIES),
    ("sparse_top_k_categorical_accuracy", INDICES, TIES),
    ("top_k_categorical_accuracy", ONE_HOT, PROBABILITIES),
    ("mae", UNIT, 1 - UNIT),
    ("mse", ONE_HOT, PROBABILITIES),
    ("binary_crossentropy", BINARY, UNIT),
    ("sparse_categorical_crossentropy", INDICES, PROBABILITIES),
]


def _batches(*arrays):
    for start in range(0, ROWS, 10):
        yield tuple(None if array is None else array[start : start + 10] for array in arrays)


@pytest.mark.parametrize(("name", "y_true", "y_pred"), CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_metric_equals_kerass_over_ragged_batches(name, y_true, y_pred, weighted):
    weight = RNG.uniform(0, 2, size=ROWS).astype("float32") if weighted else None
    ours = metrics.get(name, output_shape=y_pred.shape, y_shape=y_true.shape, loss=None)
    theirs = get_metric(name, y_true, y_pred)
    for labels, outputs, weights in _batches(y_true, y_pred, weight):
        ours.update_state(labels, outputs, weights)
        theirs.update_state(labels, outputs, sample_weight=weights)
    assert ours.name == theirs.name
    np.testing.assert_allclose(ours.result(), float(theirs.result()), rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_top_k_of_other_k_equals_kerass(k):
    ours, theirs = metrics.SparseTopKCategoricalAccuracy(k), keras.metrics.SparseTopKCategoricalAccuracy(k)
    theirs.update_state(INDICES, TIES)
    np.testing.assert_allclose(ours(INDICES, TIES), float(theirs.result()), rtol=1e-6)
    assert ours.name == theirs.name


def test_logits_give_the_accuracy_of_their_probabilities():
    logits = np.log(UNIT) - np.log1p(-UNIT)
    loss = losses.BinaryCrossentropy(from_logits=True)
    for name in ("accuracy", "binary_accuracy"):
        ours = metrics.get(name, output_shape=UNIT.shape, y_shape=BINARY.shape, loss=loss)
        theirs = keras.metrics.BinaryAccuracy()
        theirs.update_state(BINARY, UNIT)
        np.testing.assert_allclose(ours(BINARY, logits), float(theirs.result()), rtol=1e-6)
