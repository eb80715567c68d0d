import numpy as np
import pytest

from easyflax.data.prepare import prepare
from easyflax.data.weights import weights_of_classes


@pytest.mark.parametrize(
    "y",
    [np.array([1, 0, 3]), np.array([[1.0], [0.0], [3.0]]), np.eye(4)[[1, 0, 3]]],
    ids=["labels", "column of floats", "one-hot"],
)
def test_rows_weigh_what_their_class_weighs_and_one_by_default(y):
    weights = weights_of_classes(y, {1: 2.5, 3: 0})
    assert weights.dtype == np.float32
    assert weights.tolist() == [2.5, 1, 0]


@pytest.mark.parametrize(
    "class_weight", [{}, {3: 2.0}, {7: 0.5, -2: 3.0, 0: 0.0}], ids=["none", "one", "several"]
)
def test_classes_are_named_in_any_order_and_labels_may_be_any(class_weight):
    labels = np.array([-3, -2, 0, 1, 3, 6, 7, 8])
    expected = [class_weight.get(label, 1.0) for label in labels.tolist()]
    weights = prepare(np.zeros(8), labels, class_weight=class_weight).sample_weight
    assert weights.tolist() == expected
    assert weights.dtype == np.float32


def test_classes_may_be_whole_numbers_of_any_type():
    assert weights_of_classes(np.array([0, 1]), {0.0: 2, np.float32(1): 3, np.int64(4): 5}).tolist() == [2, 3]


def test_many_classes_cost_no_loop_over_rows():
    y = np.random.default_rng(0).integers(0, 7, 1000)
    table = {label: label / 2 for label in range(7)}
    assert np.array_equal(weights_of_classes(y, table), (y / 2).astype(np.float32))


@pytest.mark.parametrize(
    ("y", "class_weight", "message"),
    [
        (np.zeros(3), [1, 2], r"class_weight is a list, expected a dict.*Pass for example"),
        (np.zeros(3), {"a": 1.0}, r"class_weight has the key 'a', expected the numbers of classes"),
        (np.zeros(3), {0.5: 1.0}, r"class_weight has the key 0\.5, expected the numbers of classes"),
        (np.zeros(3), {0: -1.0}, r"class_weight\[0\] is -1\.0, expected a finite number of at least 0"),
        (np.zeros(3), {0: "2"}, r"class_weight\[0\] is '2', expected a finite number"),
        (np.zeros(3), {0: float("nan")}, r"class_weight\[0\] is nan, expected a finite number"),
        (np.eye(3), {3: 1.0}, r"class_weight has the key 3, expected classes from 0 to 2.*\(3, 3\)"),
        (np.zeros((3, 2, 2)), {0: 1.0}, r"y has shape \(3, 2, 2\), expected one label a row"),
        ({"a": np.zeros(3)}, {0: 1.0}, r"y has 1 outputs, expected one array of labels.*sample_weight"),
        (None, {0: 1.0}, r"there are no targets, expected one array of labels"),
    ],
)
def test_class_weights_that_say_nothing_of_the_targets_are_refused(y, class_weight, message):
    with pytest.raises(ValueError, match=message):
        prepare(np.zeros(3), y, class_weight=class_weight)


@pytest.mark.parametrize(
    ("y", "sample_weight", "message"),
    [
        (np.zeros(3), np.ones(4), r"x has 3 rows and sample_weight has 4, expected the same number"),
        (np.zeros(3), np.array(["a"] * 3), r"sample_weight has dtype <U1, expected numbers"),
        ([np.zeros(3)] * 2, [np.ones(3)], r"sample_weight is a list of 1 and y is a list of 2, expected the"),
        (np.zeros(3), {"a": np.ones(3)}, r"sample_weight is a dict of 1 and y is one array, expected the"),
        (
            [np.zeros(3)] * 2,
            np.ones((3, 2)),
            r"shape \(3, 2\) for 2 outputs, expected one weight a row\. Pass",
        ),
    ],
)
def test_sample_weights_that_do_not_fit_are_refused(y, sample_weight, message):
    with pytest.raises(ValueError, match=message):
        prepare(np.zeros(3), y, sample_weight)


def test_weights_of_rows_and_of_classes_exclude_each_other():
    with pytest.raises(ValueError, match=r"class_weight and sample_weight are both given.*Multiply"):
        prepare(np.zeros(2), np.zeros(2), np.ones(2), {0: 1.0})


def test_one_weight_a_row_serves_several_outputs():
    weights = np.ones(3, np.float32)
    assert prepare(np.zeros(3), [np.zeros(3)] * 2, weights).sample_weight is weights
