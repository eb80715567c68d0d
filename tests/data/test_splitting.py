import numpy as np
import pytest

from easyflax.data import split_validation, unpack_validation_data


@pytest.mark.parametrize(("rows", "fraction", "kept"), [(10, 0.2, 8), (1437, 0.1, 1293), (7, 0.5, 3)])
def test_the_tail_is_for_validation_in_the_size_keras_takes(rows, fraction, kept):
    x = np.arange(rows)
    training, validation = split_validation(x, {"a": x * 2}, x * 0.5, fraction)
    assert training[0].tolist() == list(range(kept))
    assert validation[0].tolist() == list(range(kept, rows))
    for x_part, y_part, weight_part in (training, validation):
        assert np.array_equal(y_part["a"], x_part * 2)
        assert np.array_equal(weight_part, x_part * 0.5)


def test_without_targets_and_weights_there_are_none_on_either_side():
    (_, *training), (_, *validation) = split_validation(np.arange(4), None, None, 0.5)
    assert training == validation == [None, None]


@pytest.mark.parametrize("fraction", [1.0, 1.5, -0.1, "0.1", True])
def test_a_share_outside_zero_and_one_is_refused(fraction):
    with pytest.raises(ValueError, match=r"validation_split is .*expected a number between 0 and 1.*Pass"):
        split_validation(np.zeros(9), np.zeros(9), None, fraction)


def test_a_split_that_leaves_a_side_empty_is_refused():
    with pytest.raises(ValueError, match=r"validation_split is 0\.9 of 1 rows, expected at least one row on"):
        split_validation(np.zeros(1), np.zeros(1), None, 0.9)


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ("x", ("x", None, None)),
        (("x",), ("x", None, None)),
        (("x", "y"), ("x", "y", None)),
        (["x", "y", "w"], ("x", "y", "w")),
        ({"x": 1, "y": 2}, ({"x": 1, "y": 2}, None, None)),
    ],
)
def test_validation_data_are_inputs_targets_and_weights(data, parts):
    assert unpack_validation_data(data) == parts


@pytest.mark.parametrize("data", [(), (1, 2, 3, 4)])
def test_validation_data_of_other_lengths_are_refused(data):
    with pytest.raises(ValueError, match=r"validation_data is a tuple of \d, expected one to three.*Pass"):
        unpack_validation_data(data)


def test_a_dataset_is_not_split():
    with pytest.raises(
        ValueError, match=r"validation_split is 0\.5 and x is a generator, expected arrays to"
    ):
        split_validation((np.zeros(2) for _ in range(3)), None, None, 0.5)
