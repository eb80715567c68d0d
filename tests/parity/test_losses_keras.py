"""Keras as the oracle: every loss with probabilities, logits, smoothing, weights and reductions."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

import easyflax.losses as losses

RNG = np.random.default_rng(0)


def _sample(name: str, from_logits: bool = False):
    scores = RNG.normal(size=(6, 5)).astype("float32")
    probabilities = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    if name == "SparseCategoricalCrossentropy":
        labels = RNG.integers(0, 5, size=(6,))
    elif name == "CategoricalCrossentropy":
        labels = np.eye(5, dtype="float32")[RNG.integers(0, 5, size=6)]
    elif name == "BinaryCrossentropy":
        labels = RNG.integers(0, 2, size=(6, 5)).astype("float32")
    elif name == "KLDivergence":
        labels = np.roll(probabilities, 1, axis=0)
    else:
        labels = RNG.uniform(0, 3, size=(6, 5)).astype("float32")
    positive = name in ("KLDivergence", "Poisson") or ("Crossentropy" in name and not from_logits)
    return labels, probabilities if positive else scores


PLAIN = [
    "MeanSquaredError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError",
    "LogCosh",
    "Huber",
    "KLDivergence",
    "Poisson",
]
CASES = [(name, {}) for name in PLAIN] + [("Huber", {"delta": 0.3})]
for _logits in (False, True):
    CASES += [
        ("BinaryCrossentropy", {"from_logits": _logits}),
        ("BinaryCrossentropy", {"from_logits": _logits, "label_smoothing": 0.2}),
        ("CategoricalCrossentropy", {"from_logits": _logits}),
        ("CategoricalCrossentropy", {"from_logits": _logits, "label_smoothing": 0.2}),
        ("SparseCategoricalCrossentropy", {"from_logits": _logits}),
    ]


def _assert_equals_kerass(name, arguments, weighted):
    y_true, y_pred = _sample(name, arguments.get("from_logits", False))
    weight = RNG.uniform(0, 2, size=6).astype("float32") if weighted else None
    ours = getattr(losses, name)(**arguments)(y_true, y_pred, weight)
    theirs = getattr(keras.losses, name)(**arguments)(y_true, y_pred, weight)
    np.testing.assert_allclose(ours, np.asarray(theirs), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_the_loss_of_each_row_equals_kerass(name, arguments):
    _assert_equals_kerass(name, {**arguments, "reduction": "none"}, weighted=False)


@pytest.mark.parametrize("name", ["MeanAbsoluteError", "SparseCategoricalCrossentropy"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "reduction", ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None]
)
def test_the_batch_is_weighed_and_reduced_as_in_keras(name, weighted, reduction):
    _assert_equals_kerass(name, {"reduction": reduction}, weighted)


def test_probabilities_of_zero_and_one_are_clipped_as_in_keras():
    y_pred = np.array([[0.0, 1.0], [1.0, 0.0]], "float32")
    for name, y_true in [
        ("BinaryCrossentropy", np.array([[1.0, 0.0], [1.0, 0.0]], "float32")),
        ("CategoricalCrossentropy", np.array([[1.0, 0.0], [1.0, 0.0]], "float32")),
        ("SparseCategoricalCrossentropy", np.array([0, 0])),
    ]:
        theirs = getattr(keras.losses, name)(reduction="none")(y_true, y_pred)
        np.testing.assert_allclose(
            getattr(losses, name)().per_row(y_true, y_pred), np.asarray(theirs), rtol=1e-6, atol=1e-7
        )


def test_a_loss_over_time_steps_is_their_mean_as_in_keras():
    y_pred = RNG.normal(size=(4, 3, 5)).astype("float32")
    y_true = RNG.integers(0, 5, size=(4, 3))
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")(y_true, y_pred)
    ours = losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(ours.per_row(y_true, y_pred), np.asarray(theirs).mean(-1), rtol=1e-6)
    np.testing.assert_allclose(ours(y_true, y_pred), np.asarray(theirs).mean(), rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["mse", "MSE", "mae", "mape", "msle", "mean_squared_error", "huber", "kl_divergence"]
)
def test_kerass_names_find_the_same_loss(name):
    y_true, y_pred = RNG.uniform(0.1, 1, size=(2, 4, 3)).astype("float32")
    np.testing.assert_allclose(
        losses.as_loss(name).per_row(y_true, y_pred),
        np.asarray(keras.losses.get(name)(y_true, y_pred)),
        rtol=1e-5,
    )
