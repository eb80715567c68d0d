"""What holds for every loss: masks, weights, precision, names."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.losses as losses
from easyflax import layers
from easyflax.models import Model

RNG = np.random.default_rng(1)


def test_padding_rows_count_nowhere_even_when_they_are_infinite():
    y_true = RNG.normal(size=(5, 3)).astype("float32")
    y_pred = RNG.normal(size=(5, 3)).astype("float32")
    weight = RNG.uniform(size=5).astype("float32")
    padded = np.concatenate([y_pred, np.full((3, 3), np.inf, "float32")])
    padded_true, padded_weight = np.resize(y_true, (8, 3)), np.resize(weight, 8)
    mask = np.arange(8) < 5
    for reduction in ("sum_over_batch_size", "sum", "mean_with_sample_weight"):
        loss = losses.MeanSquaredError(reduction=reduction)
        np.testing.assert_allclose(
            loss(padded_true, padded, padded_weight, mask), loss(y_true, y_pred, weight), rtol=1e-6
        )
        np.testing.assert_allclose(loss(padded_true, padded, mask=mask), loss(y_true, y_pred), rtol=1e-6)


def test_the_weighted_loss_is_the_sum_of_weight_times_row_over_all_rows():
    y_true, y_pred = RNG.normal(size=(2, 7, 3)).astype("float32")
    weight = RNG.uniform(size=7).astype("float32")
    expected = (weight * np.abs(y_true - y_pred).mean(1)).sum() / 7
    np.testing.assert_allclose(losses.MeanAbsoluteError()(y_true, y_pred, weight), expected, rtol=1e-6)


def test_each_element_may_have_its_own_weight():
    y_true, y_pred = RNG.normal(size=(2, 4, 3, 2)).astype("float32")
    weight = RNG.uniform(size=(4, 3)).astype("float32")
    expected = (weight * ((y_true - y_pred) ** 2).mean(-1)).mean()
    np.testing.assert_allclose(losses.MeanSquaredError()(y_true, y_pred, weight), expected, rtol=1e-6)


def test_a_batch_of_padding_only_has_loss_zero():
    ones = jnp.ones((2, 1))
    assert losses.MeanSquaredError()(ones, 3 * ones, mask=jnp.zeros(2, bool)) == 0


def test_labels_without_the_last_axis_fit_outputs_of_one_unit():
    y_true, y_pred = RNG.normal(size=4).astype("float32"), RNG.normal(size=(4, 1)).astype("float32")
    expected = (y_true - y_pred[:, 0]) ** 2
    for labels, outputs in [(y_true, y_pred), (y_true[:, None], y_pred[:, 0]), (y_true, y_pred[:, 0])]:
        np.testing.assert_allclose(losses.as_loss("mse").per_row(labels, outputs), expected, rtol=1e-6)


def test_half_precision_outputs_are_reduced_in_float32():
    y_pred = jnp.full((3, 1), 1.0 + 2**-7, jnp.bfloat16)
    row = losses.as_loss("mse").per_row(jnp.zeros((3, 1)), y_pred)
    assert row.dtype == jnp.float32
    np.testing.assert_array_equal(row, np.full(3, (1 + 2**-7) ** 2, "float32"))


def test_logits_and_their_probabilities_give_one_loss_and_one_gradient():
    logits = jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32)
    labels = RNG.integers(0, 4, size=5)

    def from_probabilities(logits):
        return losses.SparseCategoricalCrossentropy()(labels, jax.nn.softmax(logits))

    def from_logits(logits):
        return losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)

    for ours, theirs in zip(
        jax.value_and_grad(from_probabilities)(logits), jax.value_and_grad(from_logits)(logits)
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    np.testing.assert_allclose(from_logits(logits), expected, rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 4, 9])
def test_a_label_outside_the_classes_in_a_stream_gives_nan_not_another_class(label):
    for outputs in (jnp.ones((2, 4)) / 4, jnp.zeros((2, 4))):
        loss = losses.SparseCategoricalCrossentropy(from_logits=bool(outputs[0, 0] == 0))
        row = jax.jit(loss.per_row)(jnp.array([label, 1]), outputs)
        assert np.isnan(row[0])
        np.testing.assert_allclose(row[1], np.log(4), rtol=1e-6)


def test_resolve_decides_what_was_open_and_nothing_else():
    open_loss = losses.as_loss("binary_crossentropy")
    assert open_loss.resolve(from_logits=True).from_logits is True
    assert open_loss.from_logits is None
    decided = losses.BinaryCrossentropy(from_logits=False)
    assert decided.resolve(from_logits=True) is decided


def test_an_open_crossentropy_refuses_to_guess():
    with pytest.raises(
        ValueError, match=r"whether outputs are logits was left open.*loss\.resolve\(from_logits="
    ):
        losses.as_loss("binary_crossentropy").per_row(np.ones((2, 1)), np.ones((2, 1)))


def test_a_plain_function_is_a_loss():
    def euclidean(y_true, y_pred):
        return jnp.sqrt(((y_true - y_pred) ** 2).sum(-1))

    loss = losses.as_loss(euclidean)
    assert loss.name == "euclidean"
    np.testing.assert_allclose(loss.per_row(np.zeros((3, 2)), np.full((3, 2), [3.0, 4.0])), [5, 5, 5])
    labels = np.array([2, 0])
    logits = RNG.normal(size=(2, 3)).astype("float32")
    optax_loss = losses.as_loss(lambda y, p: optax.softmax_cross_entropy_with_integer_labels(p, y))
    expected = losses.SparseCategoricalCrossentropy(from_logits=True).per_row(labels, logits)
    np.testing.assert_allclose(optax_loss.per_row(labels, logits), expected, rtol=1e-6)
    assert optax_loss.name == "lambda"


def test_a_function_that_averages_over_the_batch_trains_whole_batches_only():
    loss = losses.as_loss(lambda y_true, y_pred: jnp.mean((y_true - y_pred) ** 2))
    assert loss(np.zeros((2, 1)), np.full((2, 1), 3.0)) == 9
    struct = jax.ShapeDtypeStruct((2, 1), np.float32)
    assert not loss.is_row_wise(struct, struct)
    assert losses.as_loss("mse").is_row_wise(struct, struct)
    with pytest.raises(
        ValueError, match=r"returned shape \(\) for a batch of 2, expected \(2,\).*leave out the mean"
    ):
        loss.per_row(np.zeros((2, 1)), np.ones((2, 1)))
    with pytest.raises(ValueError, match="Return one value a row"):
        loss(np.zeros((2, 1)), np.ones((2, 1)), mask=np.array([True, False]))


def test_a_loss_of_ones_own_defines_call_as_in_keras():
    class Cubic(losses.Loss):
        def call(self, y_true, y_pred):
            return jnp.abs(y_true - y_pred).mean(-1) ** 3

    assert Cubic().name == "cubic"
    assert losses.as_loss(Cubic)(np.zeros((2, 1)), np.full((2, 1), 2.0)) == 8


def test_a_loss_without_call_says_so():
    with pytest.raises(NotImplementedError, match="Loss has no `call`, expected a method call"):
        losses.Loss()(np.zeros(2), np.zeros(2))


def test_an_unknown_reduction_is_refused():
    with pytest.raises(
        ValueError, match=r"reduction='avg' is unknown: expected one of 'sum_over_batch_size'"
    ):
        losses.MeanSquaredError(reduction="avg")


@pytest.mark.parametrize("loss", [losses.BinaryCrossentropy, losses.CategoricalCrossentropy])
def test_label_smoothing_outside_zero_to_one_is_refused(loss):
    with pytest.raises(ValueError, match=r"label_smoothing=1.5 is outside \[0, 1\]"):
        loss(label_smoothing=1.5)


def test_weights_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\), expected \(2,\)"):
        losses.MeanSquaredError()(np.zeros((2, 1)), np.zeros((2, 1)), np.ones(3))


def test_integers_reach_a_loss_of_ones_own_as_integers_that_do_not_wrap_around():
    class Kinds(losses.Loss):
        def call(self, y_true, y_pred):
            assert jnp.issubdtype(y_true["index"].dtype, jnp.signedinteger)
            assert y_true["number"].dtype == y_pred.dtype == jnp.float32
            return y_pred[:, 0] - 1 - y_true["index"]

    labels = {"index": np.array([255, 0], "uint8"), "number": np.ones(2, "float16")}
    np.testing.assert_array_equal(Kinds(reduction=None)(labels, jnp.ones((2, 1), jnp.bfloat16)), [-255, 0])


def test_lists_of_numbers_are_arrays_and_other_lists_are_nestings():
    class Sum(losses.Loss):
        def call(self, y_true, y_pred):
            return jnp.abs(y_true[0] - y_pred[0]) + jnp.abs(y_true[1] - y_pred[1])

    outputs = [jnp.ones(3), jnp.zeros(3)]
    np.testing.assert_array_equal(Sum(reduction=None)([np.zeros(3), [1, 2, 3]], outputs), [2, 3, 4])
    assert losses.MeanAbsoluteError()([[0, 1], [2, 3]], jnp.ones((2, 2))) == 1


def test_functions_of_symbolic_values_are_steps_of_a_model():
    inputs = layers.Input((3,))
    model = Model(inputs, losses.mean_squared_error(inputs, 2 * inputs))
    np.testing.assert_allclose(model(np.full((2, 3), 3.0, "float32")), [9, 9])
