"""Layers that preprocess features, against Keras 3 on JAX."""

import numpy as np
import pytest

from tests.parity.keras_oracle import (
    assert_close,
    assert_same_config,
    assert_same_signature,
    make_both,
)

NAMES = ["CategoryEncoding", "Discretization", "Normalization"]


def rows(shape=(40, 3)):
    return np.random.default_rng(0).normal(3, 2, shape).astype("float32")


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), None])
@pytest.mark.parametrize("invert", [False, True])
def test_normalization_adapts_as_in_keras(axis, invert):
    ours, theirs = make_both("Normalization", axis=axis, invert=invert)
    data = rows((10, 4, 3))
    ours.adapt(data)
    theirs.adapt(data)
    assert_close(ours(data), theirs(data), rtol=1e-5)
    assert_close(ours.mean, theirs.mean, rtol=1e-5)
    assert_close(ours.variance, theirs.variance, rtol=1e-5)
    assert [weight.shape for weight in ours.weights] == [weight.shape for weight in theirs.weights]
    assert ours.count_params() == theirs.count_params()
    assert not ours.trainable_weights


def test_normalization_adapts_to_batches_as_keras_to_all_of_them():
    ours, theirs = make_both("Normalization")
    batches = [rows((7, 3)), 2 * rows((12, 3)), rows((1, 3))]
    ours.adapt(batches)
    theirs.adapt(np.concatenate(batches))
    assert_close(ours.mean, theirs.mean, rtol=1e-5)
    assert_close(ours.variance, theirs.variance, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"mean": 3.0, "variance": 4.0}, {"mean": (1.0, 2.0, 3.0), "variance": (4.0, 5.0, 6.0)}],
    ids=["one", "each"],
)
def test_normalization_by_given_statistics_is_that_of_keras(options):
    ours, theirs = make_both("Normalization", **options)
    assert_close(ours(rows()), theirs(rows()))
    assert ours.count_params() == theirs.count_params() == 0


@pytest.mark.parametrize(("mode", "shape"), [("one_hot", (5,)), ("multi_hot", (5, 3)), ("count", (5, 3))])
def test_category_encoding_is_that_of_keras(mode, shape):
    both = make_both("CategoryEncoding", num_tokens=4, output_mode=mode)
    ids = np.random.default_rng(0).integers(0, 4, shape)
    assert_close(both[0](ids), both[1](ids))
    if mode == "count":
        weights = rows(shape)
        assert_close(both[0](ids, count_weights=weights), both[1](ids, count_weights=weights))


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_discretization_is_that_of_keras(mode):
    ours, theirs = make_both("Discretization", [-1.0, 2.0, 3.5], output_mode=mode)
    assert_close(ours(rows()), theirs(rows()))


@pytest.mark.parametrize("in_batches", [False, True])
def test_discretization_finds_the_boundaries_of_keras(in_batches):
    ours, theirs = make_both("Discretization", num_bins=7, epsilon=0.02)
    data = [rows((300, 3)), 2 * rows((200, 3))] if in_batches else rows((500, 3))
    ours.adapt(data)
    for batch in data if in_batches else [data]:  # what Keras's adapt does, which asks for TensorFlow
        theirs.update_state(batch)
    theirs.finalize_state()
    assert ours.bin_boundaries == pytest.approx(theirs.bin_boundaries, rel=1e-6)
    assert_close(ours(rows()), theirs(rows()))


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_those_of_keras(name):
    assert_same_signature(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Discretization", {"bin_boundaries": [1.0, 2.0]}),
        ("Discretization", {"num_bins": 4, "output_mode": "one_hot"}),
        ("Normalization", {}),
        ("Normalization", {"axis": (1, 2), "invert": True}),
    ],
    ids=str,
)
def test_configurations_are_those_of_keras(name, options):
    assert_same_config(make_both(name, **options))
