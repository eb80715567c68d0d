"""Labels that do not fit are refused on the host and while tracing, with the loss that would do."""

import jax
import numpy as np
import pytest

import easyflax.losses as losses


def _check(loss, labels, output_shape):
    """Asks the host check, and the traced loss, which must agree."""
    outputs = np.full((len(labels), *output_shape[1:]), 0.5, "float32")
    host = traced = None
    try:
        losses.as_loss(loss).check_labels(labels, output_shape)
    except ValueError as error:
        host = str(error)
    try:
        jax.eval_shape(losses.as_loss(loss).resolve(from_logits=True).per_row, labels, outputs)
    except ValueError as error:
        traced = str(error)
    return host, traced


@pytest.mark.parametrize(
    ("loss", "labels", "output_shape"),
    [
        ("mse", np.zeros((4, 3)), (None, 3)),
        ("mse", np.zeros(4), (None, 1)),
        ("mse", np.zeros((4, 1)), (None,)),
        ("binary_crossentropy", np.ones((4, 3)), (None, 3)),
        ("binary_crossentropy", np.array([True, False]), (None, 1)),
        ("categorical_crossentropy", np.eye(3), (None, 3)),
        ("sparse_categorical_crossentropy", np.array([0, 2, 1]), (None, 3)),
        ("sparse_categorical_crossentropy", np.array([[0], [2]], np.uint8), (None, 3)),
        ("sparse_categorical_crossentropy", np.array([[0, 1], [2, 2]]), (None, 2, 3)),
        ("sparse_categorical_crossentropy", np.array([True, False]), (None, 2)),
        ("sparse_categorical_crossentropy", np.array([0.0, 2.0, 1.0], "float32"), (None, 3)),
    ],
)
def test_labels_that_fit_pass(loss, labels, output_shape):
    assert _check(loss, labels, output_shape) == (None, None)


@pytest.mark.parametrize(
    ("loss", "labels", "output_shape", "message"),
    [
        (
            "mse",
            np.zeros((4, 1)),
            (None, 4),
            "labels have shape (n, 1) and outputs (n, 4), expected labels of shape",
        ),
        ("mse", np.zeros((4, 3)), (None, 2), "Reshape the labels, or change the model's last layer"),
        ("mse", np.zeros((8, 3)), (None, 1), "labels have shape (n, 3) and outputs (n, 1)"),
        ("categorical_crossentropy", np.zeros(4, int), (None, 3), "use 'sparse_categorical_crossentropy'"),
        ("categorical_crossentropy", np.zeros((4, 1)), (None, 3), "use 'sparse_categorical_crossentropy'"),
        (
            "categorical_crossentropy",
            np.zeros((4, 1)),
            (None, 1),
            "Use 'binary_crossentropy' for a single unit",
        ),
        ("sparse_categorical_crossentropy", np.eye(3), (None, 3), "use 'categorical_crossentropy'"),
        ("sparse_categorical_crossentropy", np.zeros(4, int), (None, 1), "use 'binary_crossentropy'"),
        (
            "sparse_categorical_crossentropy",
            np.zeros((4, 2), int),
            (None, 3),
            "expected class indices of shape (n,)",
        ),
        ("binary_crossentropy", np.zeros(4), (None, 3), "use 'sparse_categorical_crossentropy'"),
    ],
)
def test_labels_that_do_not_fit_are_refused_on_the_host_and_while_tracing(
    loss, labels, output_shape, message
):
    host, traced = _check(loss, labels, output_shape)
    assert host is not None
    assert message in host
    assert traced is not None
    assert message in traced


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.array([0, 9, 2]),
            "labels go from 0 to 9, expected class indices from 0 to 3 for 4 classes.*in 10 units",
        ),
        (np.array([3, -1, 2]), "labels go from -1 to 3, expected class indices from 0 to 3 for 4 classes"),
        (np.array([0.5, 2.0]), "labels are float64 from 0.5 to 2.0, expected integer class indices"),
    ],
)
def test_labels_out_of_range_are_refused_with_what_was_seen(labels, message):
    with pytest.raises(ValueError, match=message):
        losses.as_loss("sparse_categorical_crossentropy").check_labels(labels, (None, 4))


def test_labels_of_minus_one_and_one_are_refused_for_the_binary_loss():
    with pytest.raises(
        ValueError, match=r"labels go from -1 to 1, expected values from 0 to 1.* Map the two classes"
    ):
        losses.as_loss("binary_crossentropy").check_labels(np.array([1, -1]), (None, 1))


def test_no_labels_at_all_are_left_to_the_check_for_empty_data():
    losses.as_loss("sparse_categorical_crossentropy").check_labels(np.zeros(0, int), (None, 4))
