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
    "loss", ["mse", "categorical_crossentropy", "sparse_categorical_crossentropy", "ctc", "circle"]
)
def test_labels_and_outputs_of_different_length_are_not_broadcast(loss):
    shape = {"ctc": (2, 5, 4)}.get(loss, (2, 3))
    labels = np.ones(
        (1, 2) if loss == "ctc" else (1, 3) if loss in ("mse", "categorical_crossentropy") else (1,)
    )
    with pytest.raises(ValueError, match="expected as many labels as outputs: nothing is broadcast"):
        losses.as_loss(loss).resolve(from_logits=True)(labels, np.ones(shape, "float32"))


def test_functions_name_themselves_where_shapes_do_not_fit():
    with pytest.raises(ValueError, match=r"huber: labels have shape \(n, 3\) and outputs \(n, 4\)"):
        losses.huber(np.zeros((2, 3)), np.zeros((2, 4)))


def test_several_outputs_are_refused_by_a_loss_of_one():
    with pytest.raises(TypeError, match=r"labels are a dict with the keys \['a', 'b'\], expected one array"):
        losses.MeanSquaredError()({"a": np.zeros((2, 1)), "b": np.zeros((2, 1))}, np.zeros((2, 1)))
    with pytest.raises(TypeError, match="mean_squared_error: the labels are None, expected one array"):
        losses.mean_squared_error(None, np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("loss", "labels", "output_shape", "message"),
    [
        (
            losses.CTC(),
            np.zeros(4, int),
            (None, 5, 3),
            r"ctc: labels have shape \(4,\).*expected labels \(n, length\)",
        ),
        (losses.CTC(), np.zeros((4, 2), int), (None, 3), r"ctc: .* and logits \(n, steps, classes\)"),
        (
            losses.Circle(),
            np.zeros((4, 2), int),
            (None, 3),
            "circle: y has shape .* expected one label for each row",
        ),
        (losses.Circle(), np.zeros(4, int), (None, 3, 2), "circle: y has shape .* return a vector a row"),
    ],
    ids=["ctc-labels", "ctc-outputs", "circle-labels", "circle-outputs"],
)
def test_sequences_and_embeddings_have_shapes_of_their_own(loss, labels, output_shape, message):
    with pytest.raises(ValueError, match=message):
        loss.check_labels(labels, output_shape)
    outputs = np.ones((4, *output_shape[1:]), "float32")
    with pytest.raises(ValueError, match=message.replace("circle: y", "circle: y_true")):
        loss(labels, outputs)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (np.array(["cat", "dog"]), "of dtype <U3"),
        (np.array([None, 1]), "of dtype object"),
        ([[1], [2, 3]], "a list"),
    ],
    ids=["strings", "objects", "ragged"],
)
@pytest.mark.parametrize("loss", ["mse", "sparse_categorical_crossentropy", "ctc", "circle"])
def test_labels_that_are_no_numbers_are_refused(loss, labels, kind):
    for find in (losses.as_loss, losses.get):
        with pytest.raises(TypeError, match=f"the labels are {kind}, expected an array of numbers"):
            find(loss)(labels, np.ones((2, 3)))


def test_the_axis_of_the_classes_is_an_integer():
    for make in (losses.CategoricalCrossentropy, losses.CategoricalFocalCrossentropy):
        with pytest.raises(ValueError, match="axis was given as True, expected an integer"):
            make(axis=True)
