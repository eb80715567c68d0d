import numpy as np
import pytest

from easyflax.data import split_validation, unpack_validation_data


@pytest.mark.parametrize(("rows", "fraction", "kept"), [(10, 0.2, 8), (1437, 0.1, 1293), (7, 0.5, 3)])
def test_the_tail_is_for_validation_in_the_size_keras_takes(rows, fraction, kept):
    x = np.arange(rows)
    (x_train, y_train), (x_val, y_val) = split_validation(x, {"a": x * 2}, fraction)
    assert x_train.tolist() == list(range(kept))
    assert x_val.tolist() == list(range(kept, rows))
    assert np.array_equal(y_train["a"], x_train * 2)
    assert np.array_equal(y_val["a"], x_val * 2)


@pytest.mark.parametrize("fraction", [1.0, 1.5, -0.1, "0.1", True])
def test_a_share_outside_zero_and_one_is_refused(fraction):
    with pytest.raises(ValueError, match=r"validation_split is .*expected a number between 0 and 1.*Pass"):
        split_validation(np.zeros(9), np.zeros(9), fraction)


def test_a_split_that_leaves_a_side_empty_is_refused():
    with pytest.raises(ValueError, match=r"validation_split is 0\.9 of 1 rows, expected at least one row on"):
        split_validation(np.zeros(1), np.zeros(1), 0.9)


@pytest.mark.parametrize("data", [np.zeros(2), (np.zeros(2),), (1, 2, 3), {"x": 1, "y": 2}])
def test_validation_data_must_be_a_pair(data):
    with pytest.raises(
        ValueError, match=r"validation_data is a .*expected a pair\. Pass validation_data=\(x_val"
    ):
        unpack_validation_data(data)
