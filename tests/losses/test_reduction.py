"""Weights, masks of outputs and rows of padding, in every reduction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.losses as losses
from easyflax.masks import attach_masks

RNG = np.random.default_rng(2)
Y_TRUE, Y_PRED = RNG.normal(size=(2, 3, 4, 2)).astype("float32")  # sequences of four steps
VALUES = np.square(Y_TRUE - Y_PRED).mean(-1)
MASK = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], bool)
WEIGHTS = {"no weight": None, "row": RNG.uniform(size=3), "element": RNG.uniform(size=(3, 4))}
REDUCTIONS = ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight"]


def _masked(y_pred, mask):
    y_pred = jnp.array(y_pred)
    attach_masks(y_pred, None if mask is None else jnp.asarray(mask))
    return y_pred


def _expected(reduction, weight, valid):
    weight = np.ones((3, 4)) if weight is None else np.broadcast_to(weight.reshape(3, -1), (3, 4))
    total = (VALUES * weight)[valid].sum()
    return total / {"sum": 1, "mean_with_sample_weight": weight[valid].sum()}.get(reduction, valid.sum())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
def test_padding_changes_nothing_whatever_it_holds(reduction, weights, masked):
    mask, weight = MASK if masked else None, WEIGHTS[weights]
    loss = losses.MeanSquaredError(reduction=reduction)
    expected = _expected(reduction, weight, np.ones((3, 4), bool) if mask is None else mask)
    np.testing.assert_allclose(loss(Y_TRUE, _masked(Y_PRED, mask), weight), expected, rtol=1e-5)

    def padded(array, filling):
        rows = np.full((2, *array.shape[1:]), filling, array.dtype)
        return None if array is None else np.concatenate([array, rows])

    outputs = _masked(padded(Y_PRED, np.nan), None if mask is None else padded(mask, True))
    more = None if weight is None else padded(weight, 7.0)
    rows = np.array([True] * 3 + [False] * 2)
    np.testing.assert_allclose(loss(padded(Y_TRUE, np.inf), outputs, more, rows), expected, rtol=1e-5)


def test_values_are_weighed_and_masked_without_a_reduction():
    rows = np.array([True, False, True])
    values = losses.MeanSquaredError(reduction=None)(Y_TRUE, _masked(Y_PRED, MASK), WEIGHTS["row"], rows)
    expected = VALUES * WEIGHTS["row"][:, None] * MASK * rows[:, None]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_a_mask_that_the_loss_attaches_is_joined_with_that_of_the_outputs():
    class Masking(losses.Loss):
        def call(self, y_true, y_pred):
            values = jnp.square(y_true - y_pred).mean(-1)
            attach_masks(values, values > 1)
            return values

    valid = MASK & (VALUES > 1)
    assert 0 < valid.sum() < MASK.sum()
    np.testing.assert_allclose(Masking()(Y_TRUE, _masked(Y_PRED, MASK)), VALUES[valid].mean(), rtol=1e-5)


def test_masks_hold_under_jit_and_stop_gradients():
    def mean(y_pred):
        y_pred = 1 * y_pred
        attach_masks(y_pred, jnp.asarray(MASK))
        return losses.MeanSquaredError()(Y_TRUE, y_pred)

    value, gradient = jax.jit(jax.value_and_grad(mean))(Y_PRED)
    np.testing.assert_allclose(value, VALUES[MASK].mean(), rtol=1e-5)
    np.testing.assert_allclose(
        gradient, (Y_PRED - Y_TRUE) * MASK[..., None] / MASK.sum(), rtol=1e-5, atol=1e-7
    )


def test_a_number_weighs_the_whole_batch():
    whole = losses.MeanSquaredError()(Y_TRUE, Y_PRED)
    np.testing.assert_allclose(losses.MeanSquaredError()(Y_TRUE, Y_PRED, 3.0), 3 * whole, rtol=1e-6)


def test_what_weighs_nothing_counts_for_nothing_even_where_there_is_no_value():
    labels, outputs = np.array([1, -1]), np.array([[0.5, 0.5], [0.5, 0.5]], "float32")
    loss = losses.SparseCategoricalCrossentropy()
    np.testing.assert_allclose(loss(labels, outputs, np.array([1.0, 0.0])), np.log(2) / 2, rtol=1e-6)
    gradient = jax.grad(lambda outputs: loss(labels, outputs, np.array([1.0, 0.0])))(outputs)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_and_masks_of_nothing_give_zero(reduction):
    loss = losses.MeanSquaredError(reduction=reduction)
    nothing = np.zeros(3)
    assert loss(Y_TRUE, Y_PRED, nothing) == 0
    assert loss(Y_TRUE, Y_PRED, mask=nothing.astype(bool)) == 0
    assert loss(Y_TRUE, _masked(Y_PRED, np.zeros((3, 4), bool))) == 0
    assert loss(Y_TRUE[:0], Y_PRED[:0]) == 0


def test_a_mask_of_steps_does_not_fit_one_value_a_row():
    labels, outputs = np.zeros((3, 4)), _masked(np.zeros((3, 4)), MASK)
    with pytest.raises(ValueError, match=r"mask of the outputs has shape \(3, 4\), expected \(3,\)"):
        losses.MeanSquaredError()(labels, outputs)


@pytest.mark.parametrize("shape", [(4,), (2,), (3, 3), (1,), (3, 4, 2)])
def test_weights_that_fit_neither_rows_nor_values_are_refused(shape):
    with pytest.raises(ValueError, match=r"sample_weight has shape .*, expected"):
        losses.MeanSquaredError()(Y_TRUE, Y_PRED, np.ones(shape))


@pytest.mark.parametrize("loss", [losses.Dice(), losses.Tversky()], ids=["dice", "tversky"])
def test_one_value_for_a_whole_batch_cannot_be_weighed_by_rows(loss):
    labels, outputs = np.ones((3, 2)), np.full((3, 2), 0.5, "float32")
    assert loss(labels, outputs).shape == ()
    assert not loss.is_row_wise(labels, outputs)
    with pytest.raises(
        ValueError, match=r"returned shape \(\) for a batch of 3, expected \(3,\).* Pass axis= to"
    ):
        loss(labels, outputs, np.ones(3))
    by_row = losses.Dice(axis=-1)
    assert by_row.is_row_wise(labels, outputs)
    np.testing.assert_allclose(by_row(labels, outputs, np.array([3.0, 0, 0])), 1 / 3, rtol=1e-5)


def test_rows_that_are_compared_with_each_other_cannot_be_left_out():
    labels, outputs = np.array([0, 0, 1]), np.eye(3, dtype="float32")
    assert not losses.Circle().is_row_wise(labels, outputs)
    with pytest.raises(ValueError, match="each row is compared with all others"):
        losses.Circle()(labels, outputs, mask=np.array([True, True, False]))


def test_a_loss_that_returns_nothing_is_named():
    def forgetful(y_true, y_pred):
        jnp.square(y_true - y_pred)

    with pytest.raises(ValueError, match="Loss 'forgetful' returned None, expected an array"):
        losses.as_loss(forgetful)(Y_TRUE, Y_PRED)


def test_a_loss_that_returns_several_values_is_refused():
    def pair(y_true, y_pred):
        return y_true - y_pred, y_true

    with pytest.raises(ValueError, match=r"Loss 'pair' returned a tuple, expected an array\. Return one"):
        losses.as_loss(pair)([[1.0]], [[2.0]])


def test_the_shapes_that_weights_may_have_are_told_once():
    with pytest.raises(
        ValueError, match=r"sample_weight has shape \(2, 3\), expected \(2,\). Pass one number"
    ):
        losses.as_loss("mse")([[1.0], [2.0]], [[2.0], [3.0]], sample_weight=[[1.0] * 3] * 2)
