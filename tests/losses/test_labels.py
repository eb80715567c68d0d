"""Labels whose values make no sense for a loss are refused on the host, with what was seen."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.losses as losses

INDEXED = ["sparse_categorical_crossentropy", "categorical_generalized_cross_entropy"]


@pytest.mark.parametrize("loss", INDEXED)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.array([0, 9, 2]),
            "labels go from 0 to 9, expected class indices from 0 to 3 for 4 classes.*in 10 units",
        ),
        (np.array([3, -1, 2]), "labels go from -1 to 3, expected class indices from 0 to 3 for 4 classes"),
        (np.array([3.0, 7.0]), "labels go from 3.0 to 7.0, expected class indices from 0 to 3.*in 8 units"),
        (
            np.array([0.5, 2.0]),
            "labels are float64 from 0.5 to 2.0, expected integer class indices from 0 to 3 for 4 classes",
        ),
        (np.array([np.nan, 2.0]), "labels are float64 from nan to nan, expected integer class indices"),
        (np.array(["a", "b"]), "labels are <U1, expected integer class indices"),
    ],
)
def test_indices_that_are_no_class_are_refused_with_what_was_seen(loss, labels, message):
    with pytest.raises(ValueError, match=message):
        losses.as_loss(loss).check_labels(labels, (None, 4))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", jnp.bfloat16])
def test_whole_numbers_of_any_dtype_are_indices(dtype):
    labels = np.array([0, 1, 1]).astype(dtype)
    outputs = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], "float32")
    for name in INDEXED:
        loss = losses.as_loss(name).resolve(from_logits=False)
        loss.check_labels(labels, (None, 2))
        np.testing.assert_array_equal(loss(labels, outputs), loss(np.array([0, 1, 1]), outputs))


def test_a_label_that_is_not_whole_in_a_stream_gives_nan():
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1, reduction=None)
    values = loss(np.array([0.5, 1.0, -1.0]), np.full((3, 2), 0.5, "float32"))
    np.testing.assert_allclose(values, [np.nan, np.log(2), 0], rtol=1e-6)


@pytest.mark.parametrize("ignored", [-1, 255])
def test_the_class_that_is_ignored_need_be_no_class(ignored):
    labels = np.array([[0, ignored], [ignored, 3]])
    losses.SparseCategoricalCrossentropy(ignore_class=ignored).check_labels(labels, (None, 2, 4))
    with pytest.raises(ValueError, match=f"labels go from -7 to {max(ignored, 3)}"):
        losses.SparseCategoricalCrossentropy().check_labels(
            np.array([[-7, 3], [0, max(ignored, 3)]]), (None, 2, 4)
        )


def test_the_classes_may_lie_on_another_axis():
    loss = losses.SparseCategoricalCrossentropy(axis=1)
    loss.check_labels(np.array([[0, 1, 2, 1, 0]]), (None, 3, 5))
    with pytest.raises(ValueError, match="for 3 classes"):
        loss.check_labels(np.array([[0, 1, 4, 1, 0]]), (None, 3, 5))


@pytest.mark.parametrize(
    ("loss", "labels", "message"),
    [
        ("binary_crossentropy", [1, -1], "labels go from -1 to 1, expected values from 0 to 1. Map the two"),
        ("binary_focal_crossentropy", [0, 2], "labels go from 0 to 2, expected values from 0 to 1"),
        ("hinge", [0, 5], "labels go from 0 to 5, expected values from -1 to 1. Map the two classes"),
        ("squared_hinge", [-3, 1], "labels go from -3 to 1, expected values from -1 to 1"),
        ("poisson", [-2.5, 1], "labels go from -2.5 to 1.0, expected values of at least 0. Pass counts"),
        ("dice", [0, 255], "labels go from 0 to 255, expected values from 0 to 1. Divide masks"),
        ("tversky", [0, 255], "labels go from 0 to 255, expected values from 0 to 1"),
    ],
)
def test_labels_out_of_the_range_of_a_loss_are_refused_with_what_was_seen(loss, labels, message):
    with pytest.raises(ValueError, match=message):
        losses.as_loss(loss).check_labels(np.array(labels), (None, 1))


@pytest.mark.parametrize("loss", ["kl_divergence", "categorical_hinge"])
def test_distributions_have_shares_from_zero_to_one_up_to_rounding(loss):
    loss = losses.as_loss(loss)
    loss.check_labels(np.array([[1 + 1e-7, 0]], "float32"), (None, 2))
    with pytest.raises(ValueError, match="labels go from 1 to 2, expected values from 0 to 1"):
        loss.check_labels(np.array([[1, 2]]), (None, 2))


def test_labels_of_sequences_and_embeddings_are_whole_numbers():
    losses.CTC().check_labels(np.array([[1, 2, 0]]), (None, 5, 3))
    with pytest.raises(ValueError, match="ctc: labels go from 0 to 3, expected class indices from 0 to 2"):
        losses.CTC().check_labels(np.array([[1, 3, 0]]), (None, 5, 3))
    losses.Circle().check_labels(np.array([7, -2, 7]), (None, 5))
    with pytest.raises(
        ValueError, match=r"circle: labels are float64 from 0\.5 to 0.5, expected integer labels"
    ):
        losses.Circle().check_labels(np.array([0.5]), (None, 5))


def test_weighted_one_hot_labels_are_left_to_the_user():
    """Policy gradients are often trained as a cross-entropy of one-hot actions times advantages."""
    losses.CategoricalCrossentropy().check_labels(np.array([[0, -2.5], [3.0, 0]]), (None, 2))


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "hinge", "poisson"])
def test_no_labels_at_all_are_left_to_the_check_for_empty_data(loss):
    shape = (None, 4) if "sparse" in loss else (None, 1)
    losses.as_loss(loss).check_labels(np.zeros(0, int), shape)
