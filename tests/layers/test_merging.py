"""Merging layers: closed forms, shapes, masks, messages."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax.layers import Add, Average, Concatenate, Dot, Maximum, Multiply, Subtract, concatenate
from easyflax.masks import mask_of, with_masks

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(2, 3, 4)).astype("float32") for _ in range(3))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (Add(), A + B + C),
        (Average(), (A + B + C) / 3),
        (Multiply(), A * B * C),
        (Maximum(), np.maximum(np.maximum(A, B), C)),
        (Concatenate(axis=1), np.concatenate([A, B, C], 1)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_three_inputs_make_one(layer, expected):
    np.testing.assert_allclose(layer([A, B, C]), expected, rtol=1e-6)
    np.testing.assert_allclose(layer((A, B, C)), expected, rtol=1e-6)


def test_rows_with_fewer_axes_are_broadcast_along_the_missing_ones():
    np.testing.assert_allclose(Add()([A, B[:, 0]]), A + B[:, :1], rtol=1e-6)


@pytest.mark.parametrize(
    ("axes", "equation"),
    [(2, "bik,bjk->bij"), (1, "bki,bkj->bij"), ((2, 2), "bik,bjk->bij")],
    ids=["last", "first", "pair"],
)
def test_dot_sums_over_its_axes(axes, equation):
    np.testing.assert_allclose(Dot(axes)([A, B]), np.einsum(equation, A, B), rtol=1e-5, atol=1e-6)


def test_normalized_dot_is_the_cosine():
    cosine = Dot(axes=-1, normalize=True)([A[:, 0], 7.0 * A[:, 0]])
    np.testing.assert_allclose(cosine, np.ones((2, 1)), rtol=1e-6)


def test_masked_steps_are_left_out():
    masks = [jnp.array([[True, True, False]] * 2), jnp.array([[True, False, True]] * 2)]
    largest = Maximum()(with_masks([A, B], masks))
    np.testing.assert_allclose(largest, np.stack([np.maximum(A, B)[:, 0], A[:, 1], B[:, 2]], 1))
    np.testing.assert_array_equal(mask_of(largest), True)
    assert Add().compute_mask([A, B], [masks[0], None]) is None
    joined = Concatenate(axis=1).compute_mask([A, B], [masks[0], None])
    np.testing.assert_array_equal(joined, [[True, True, False, True, True, True]] * 2)


@pytest.mark.parametrize(
    ("layer", "inputs", "match"),
    [
        (Add(name="sum"), A, r"Add 'sum': got one array, expected a list of one or more"),
        (Add(name="sum"), [], "Add 'sum': got 0 inputs"),
        (Subtract(), [A, B, C], "got 3 inputs, expected a list of 2"),
        (
            Add(name="sum"),
            [A, B, B[:, :2]],
            r"Add 'sum': got inputs 0 and 2 of shapes \(2, 3, 4\) and \(2, 2, 4\), expected shapes that are",
        ),
        (Add(), [A, B[:1]], r"inputs 0 and 1 of shapes .* expected as many rows in both"),
        (
            Concatenate(name="join"),
            [A, B[:, :2]],
            r"Concatenate 'join': got inputs 0 and 1 of shapes .* all axes but axis -1",
        ),
        (Concatenate(axis=3), [A, B], r"input 0 of shape \(2, 3, 4\), which has no axis 3"),
        (
            Dot(axes=(1, 2)),
            [A, B],
            r"shapes \(2, 3, 4\) and \(2, 3, 4\), expected equal sizes of axes 1 and 2",
        ),
        (Dot(axes=0), [A, B], r"axes=0, expected axes that the inputs have, the first one, .* left out"),
        (Dot(axes=3), [A, B], "axes=3, expected axes that the inputs have"),
        (Dot(axes=1), [A, B[:1]], "expected as many rows in both"),
    ],
    ids=[
        "no-list",
        "none",
        "three",
        "shapes",
        "rows",
        "join",
        "axis",
        "dot",
        "dot-batch",
        "dot-axis",
        "dot-rows",
    ],
)
def test_inputs_that_do_not_fit_are_both_named(layer, inputs, match):
    with pytest.raises(ValueError, match=match):
        layer(inputs)


def test_shapes_that_do_not_fit_are_an_error_where_the_graph_is_stated():
    x, y = ef.Input((3, 4)), ef.Input((2, 4))
    with pytest.raises(ValueError, match=r"'add' cannot be called on the output of .* and .*inputs 0 and 1"):
        Add(name="add")([x, y])
    assert concatenate([x, y], axis=1).shape == (None, 5, 4)


@pytest.mark.parametrize(
    ("axes", "error"), [("last", TypeError), ((1, 2, 3), ValueError), ((1, 2.0), ValueError)], ids=str
)
def test_axes_that_make_no_sense_are_refused(axes, error):
    with pytest.raises(error, match=r"Dot: got axes=.*, expected an integer or two"):
        Dot(axes)


def test_masks_come_one_for_each_input():
    with pytest.raises(ValueError, match="got mask=1 for 2 inputs, expected a list with one for each"):
        Add().compute_mask([A, B], [None])
