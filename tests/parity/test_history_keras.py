"""History has the names that Keras's has, in Keras's order, with the same values."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

import easyflax

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
LABELS = RNG.integers(0, 3, 12).astype("int32")
NUMBERS = RNG.normal(size=(12, 1)).astype("float32")
WEIGHTS = RNG.uniform(0.5, 2.0, 12).astype("float32")


def one_output(library, units, activation=None):
    return library.Sequential(
        [library.Input((4,)), library.layers.Dense(units, activation=activation, name="head")]
    )


def assert_same_history(make, *, compiled, fitted, x=X):
    """Trains the model of `make` in both libraries from the same weights, and compares what they return.

    Args:
        make: takes the library and returns a model.
        compiled: takes the library and returns the arguments of `compile`.
        fitted: the arguments of `fit`.
        x: inputs.
    """
    both = {library: make(library) for library in (easyflax, keras)}
    shapes = [weight.shape for weight in both[easyflax].get_weights()]
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=shape).astype("float32") for shape in shapes]
    histories = []
    for library, model in both.items():
        model.set_weights(weights)
        model.compile("sgd", **compiled(library))
        histories.append(model.fit(x, epochs=2, batch_size=6, shuffle=False, verbose=0, **fitted))
    ours, theirs = histories
    assert list(ours.history) == list(theirs.history)
    assert ours.epoch == theirs.epoch
    assert ours.params == theirs.params
    for name, values in theirs.history.items():
        assert all(type(value) is float for value in ours.history[name])
        np.testing.assert_allclose(ours.history[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize(
    "metrics",
    [None, ["mae"], ["mse", "mae"], ["mean_absolute_error", "mse"]],
    ids=["none", "one", "two", "long_names"],
)
def test_numbers_with_validation(metrics):
    assert_same_history(
        lambda library: one_output(library, 1),
        compiled=lambda library: {"loss": "mse", "metrics": metrics},
        fitted={"y": NUMBERS, "validation_split": 0.5},
    )


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "metrics", [["accuracy"], ["acc"], ["sparse_categorical_accuracy", "accuracy"]], ids=str
)
def test_classes_with_a_metric_that_goes_by_the_shapes(metrics):
    assert_same_history(
        lambda library: one_output(library, 3, "softmax"),
        compiled=lambda library: {"loss": "sparse_categorical_crossentropy", "metrics": metrics},
        fitted={"y": LABELS, "validation_data": (X, LABELS), "validation_freq": 2},
    )


# -- several outputs

TARGETS = {"list": [NUMBERS, LABELS], "dict": {"number": NUMBERS, "label": LABELS}}


def two_outputs(kind):
    """Returns what makes a model with its outputs in a list or a dict."""

    def make(library):
        inputs = library.Input((4,))
        number = library.layers.Dense(1, name="number")(inputs)
        label = library.layers.Dense(3, activation="softmax", name="label")(inputs)
        return library.Model(
            inputs, [number, label] if kind == "list" else {"number": number, "label": label}
        )

    return make


LABEL = "sparse_categorical_crossentropy"
IN_A_LIST = ["mse", LABEL]
BY_NAME = {"number": "mse", "label": LABEL}
COMPILED = {
    "list_losses": {"loss": IN_A_LIST},
    "list_metrics": {"loss": IN_A_LIST, "metrics": [["mae", "mse"], ["accuracy"]]},
    "list_a_metric_each": {"loss": IN_A_LIST, "metrics": ["mae", "acc"], "loss_weights": [0.5, 2.0]},
    "list_by_name": {"loss": BY_NAME, "metrics": {"label": ["accuracy"]}},
    "dict_metrics": {"loss": BY_NAME, "metrics": {"number": "mae", "label": ["accuracy", LABEL]}},
    "dict_weights": {"loss": BY_NAME, "loss_weights": {"number": 3.0, "label": 0.25}},
    "dict_weighted_metrics": {
        "loss": BY_NAME,
        "metrics": {"number": ["mae"]},
        "weighted_metrics": {"number": ["mse"], "label": ["accuracy"]},
    },
}


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("case", COMPILED)
def test_two_outputs(case):
    kind = case.split("_")[0]
    y = TARGETS[kind]
    assert_same_history(
        two_outputs(kind), compiled=lambda library: COMPILED[case], fitted={"y": y, "validation_data": (X, y)}
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", TARGETS)
def test_sample_weights_of_two_outputs_reach_losses_and_weighted_metrics(kind):
    weights = {"list": [WEIGHTS, WEIGHTS[::-1]], "dict": {"number": WEIGHTS, "label": WEIGHTS[::-1]}}
    assert_same_history(
        two_outputs(kind),
        compiled=lambda library: COMPILED["dict_weighted_metrics"],
        fitted={"y": TARGETS[kind], "sample_weight": weights[kind]},
    )


@pytest.mark.slow
def test_metric_objects_of_all_kinds_have_their_names():
    def compiled(library):
        return {
            "loss": library.losses.MeanSquaredError(),
            "metrics": [
                library.metrics.MeanAbsoluteError(name="error"),
                "mae",
                library.metrics.RootMeanSquaredError(),
                lambda y_true, y_pred: library.ops.mean(y_pred, axis=-1),
            ],
            "weighted_metrics": ["mae", library.metrics.MeanSquaredError()],
        }

    assert_same_history(
        lambda library: one_output(library, 1),
        compiled=compiled,
        fitted={"y": NUMBERS, "sample_weight": WEIGHTS, "validation_data": (X, NUMBERS, WEIGHTS)},
    )
