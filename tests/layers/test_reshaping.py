"""Layers that move entries: values, shapes of symbolic values, messages."""

import numpy as np
import pytest

import easyflax as ef
from easyflax.layers import Flatten, Permute, RepeatVector, Reshape

X = np.arange(48.0, dtype="float32").reshape(2, 4, 6)


def test_flatten_keeps_the_order_and_channels_first_changes_it():
    np.testing.assert_array_equal(Flatten()(X), X.reshape(2, 24))
    np.testing.assert_array_equal(Flatten("channels_first")(X), np.moveaxis(X, 1, 2).reshape(2, 24))


def test_reshape_there_and_back_is_the_identity():
    np.testing.assert_array_equal(Reshape((4, 6))(Reshape((-1, 3))(X)), X)


def test_permute_twice_is_the_identity():
    layer = Permute((2, 1))
    np.testing.assert_array_equal(layer(layer(X)), X)


def test_repeat_vector_makes_equal_steps():
    y = RepeatVector(3)(X[:, 0])
    np.testing.assert_array_equal(y, np.stack([X[:, 0]] * 3, axis=1))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (Flatten(), (4, 6), (None, 24)),
        (Flatten(), (None, 6), (None, None)),
        (Reshape((3, -1)), (4, 6), (None, 3, 8)),
        (Reshape((-1, 3)), (None, 6), (None, None, 3)),
        (Permute((2, 1)), (None, 6), (None, 6, None)),
        (RepeatVector(5), (6,), (None, 5, 6)),
    ],
    ids=["flatten", "flatten-free", "reshape", "reshape-free", "permute", "repeat"],
)
def test_shapes_of_symbolic_values_are_known(layer, shape, expected):
    assert layer(ef.Input(shape)).shape == expected


def test_a_batch_may_be_empty():
    assert Flatten()(X[:0]).shape == (0, 24)
    assert Reshape((-1, 3))(X[:0]).shape == (0, 8, 3)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Reshape((-1, -1)), r"Reshape: got target_shape=\(-1, -1\), expected sizes"),
        (lambda: Reshape((2, -3)), "one of which may be -1"),
        (lambda: Permute((0, 1)), r"Permute: got dims=\(0, 1\), expected the numbers from 1 to 2"),
        (lambda: RepeatVector(0), "RepeatVector: .*n=0"),
        (lambda: RepeatVector(2.0), "RepeatVector: .*n"),
        (lambda: Flatten("first"), "Flatten: got data_format='first'"),
    ],
    ids=["two-free", "negative", "dims", "zero", "float", "format"],
)
def test_arguments_that_make_no_sense_are_refused(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


@pytest.mark.parametrize(
    ("layer", "x", "match"),
    [
        (Reshape((5, 5), name="r"), X, r"Reshape 'r': .*rows have 24 entries, expected 25 for target_shape"),
        (Reshape((5, -1), name="r"), X, "expected a multiple of 5"),
        (Permute((1,), name="p"), X, r"Permute 'p': got an input of shape \(2, 4, 6\), expected 2 axes"),
        (RepeatVector(2, name="v"), X, "RepeatVector 'v': .*expected 2 axes"),
        (Flatten(name="f"), np.float32(1), "Flatten 'f': got an input without axes"),
    ],
    ids=["reshape", "reshape-free", "permute", "repeat", "flatten"],
)
def test_inputs_that_do_not_fit_are_named(layer, x, match):
    with pytest.raises(ValueError, match=match):
        layer(x)
