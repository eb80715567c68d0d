"""Losses against what they are by definition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.losses as losses

RNG = np.random.default_rng(3)


def _ctc_by_enumeration(labels, logits):
    """Minus the log of the summed probabilities of all paths that collapse to the labels."""
    logs = np.asarray(jax.nn.log_softmax(logits))
    steps, classes = logs.shape
    paths = np.stack(np.meshgrid(*[np.arange(classes)] * steps, indexing="ij"), -1).reshape(-1, steps)
    fits = []
    for path in paths:
        kept = [c for c, before in zip(path, [-1, *path]) if c != before and c != 0]
        if kept == labels:
            fits.append(logs[np.arange(steps), path].sum())
    return -np.logaddexp.reduce(fits)


@pytest.mark.parametrize("labels", [[1, 2], [1, 1], [2], []], ids=["two", "repeated", "one", "none"])
def test_ctc_sums_over_all_alignments(labels):
    logits = RNG.normal(size=(4, 3)).astype("float32")
    padded = np.array([labels + [0] * (3 - len(labels))])
    np.testing.assert_allclose(
        losses.ctc(padded, logits[None])[0], _ctc_by_enumeration(labels, logits), rtol=1e-5
    )


def test_ctc_is_optaxs():
    labels, logits = np.array([[1, 2, 0], [2, 2, 1]]), RNG.normal(size=(2, 5, 3)).astype("float32")
    paddings = (labels == 0).astype("float32")
    expected = optax.losses.ctc_loss(
        jnp.asarray(logits), jnp.zeros((2, 5)), jnp.asarray(labels), jnp.asarray(paddings)
    )
    np.testing.assert_allclose(losses.CTC(reduction="sum")(labels, logits), expected.sum(), rtol=1e-6)


def test_a_focal_loss_without_focus_is_the_cross_entropy():
    shares = RNG.dirichlet(np.ones(4), 5).astype("float32")
    one_hot = np.eye(4, dtype="float32")[[0, 3, 1, 1, 2]]
    np.testing.assert_allclose(
        losses.categorical_focal_crossentropy(one_hot, shares, alpha=1.0, gamma=0.0),
        losses.categorical_crossentropy(one_hot, shares),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        losses.binary_focal_crossentropy(one_hot, shares, gamma=0.0),
        losses.binary_crossentropy(one_hot, shares),
        rtol=1e-6,
    )


def test_the_generalized_cross_entropy_lies_between_cross_entropy_and_error():
    at_label = np.array([0.9, 0.2], "float32")
    outputs = np.stack([at_label, 1 - at_label], -1)
    labels = np.zeros(2, int)
    near_log, near_error = (
        losses.CategoricalGeneralizedCrossEntropy(q, reduction=None)(labels, outputs) for q in (1e-3, 0.999)
    )
    np.testing.assert_allclose(near_log, -np.log(at_label), rtol=2e-3)
    np.testing.assert_allclose(near_error, 1 - at_label, rtol=2e-2)
    with pytest.raises(ValueError, match=r"q=1 is not between 0 and 1"):
        losses.CategoricalGeneralizedCrossEntropy(1)


def test_tversky_with_equal_weights_is_dice():
    labels, outputs = RNG.uniform(size=(2, 3, 8)).astype("float32")
    np.testing.assert_allclose(
        losses.tversky(labels, outputs, axis=-1), losses.dice(labels, outputs, axis=-1), rtol=1e-5
    )


def test_cosine_similarity_knows_directions_only():
    vectors = RNG.normal(size=(4, 3)).astype("float32")
    np.testing.assert_allclose(losses.cosine_similarity(vectors, 5 * vectors), -np.ones(4), rtol=1e-6)
    np.testing.assert_allclose(losses.cosine_similarity(vectors, -vectors), np.ones(4), rtol=1e-6)
    mean = jax.jit(jax.value_and_grad(lambda v: losses.CosineSimilarity()(vectors, v)))
    value, gradient = mean(jnp.zeros((4, 3)))
    assert value == 0
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]], ids=["alike", "different"])
def test_circle_without_positives_or_negatives_has_finite_gradients(labels):
    vectors = np.eye(3, dtype="float32")
    gradient = jax.jit(jax.grad(lambda v: losses.Circle()(np.array(labels), v)))(vectors)
    assert np.isfinite(gradient).all()


def test_hinge_takes_zeros_and_ones_for_minus_ones_and_ones():
    signs, outputs = np.array([[-1, 1, 1]]), np.array([[-2, 0.5, -1]], "float32")
    np.testing.assert_allclose(losses.hinge(signs, outputs), [(0 + 0.5 + 2) / 3], rtol=1e-6)
    for one in (losses.hinge, losses.squared_hinge):
        np.testing.assert_array_equal(one((signs + 1) // 2, outputs), one(signs, outputs))


def test_what_is_ignored_sends_nothing_back():
    labels = np.array([-1, 1])
    outputs = jnp.array([[jnp.nan, 0.0], [0.0, 0.0]])
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    value, gradient = jax.value_and_grad(lambda outputs: loss(labels, outputs))(outputs)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0], [0.5, -0.5]], rtol=1e-6)
