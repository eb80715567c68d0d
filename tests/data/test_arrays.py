import itertools

import jax
import numpy as np
import pytest

from easyflax.data import as_source


def _rows(batches):
    return [batch.x.tolist() for batch in batches]


def test_batches_cover_all_rows_in_order_and_the_last_has_what_is_left():
    source = as_source(np.arange(7), batch_size=3)
    assert source.num_batches == 3
    assert source.num_rows == 7
    assert _rows(source.epoch(0)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert not source.is_exhausted


def test_x_and_y_are_shuffled_alike_and_anew_in_each_pass():
    source = as_source(np.arange(40), np.arange(40) * 2, batch_size=8, shuffle=True, seed=5)
    passes = [list(source.epoch(number)) for number in (0, 1)]
    for batches in passes:
        assert all(np.array_equal(batch.x * 2, batch.y) for batch in batches)
        assert sorted(np.concatenate([batch.x for batch in batches])) == list(range(40))
    assert not np.array_equal(passes[0][0].x, passes[1][0].x)


def test_epochs_of_given_steps_go_on_where_the_last_one_ended():
    source = as_source(np.arange(5), batch_size=2)
    assert [_rows(source.epoch(number, 2)) for number in range(3)] == [
        [[0, 1], [2, 3]],
        [[4], [0, 1]],
        [[2, 3], [4]],
    ]


def test_reading_may_start_anywhere():
    source = as_source(np.arange(50), batch_size=7, shuffle=True, seed=1)
    passes = itertools.chain.from_iterable(source.epoch(number) for number in range(3))
    assert _rows(source.epoch(2, 5)) == _rows(passes)[10:15]


def test_the_batch_size_may_follow_from_the_steps():
    assert as_source(np.arange(10), steps=4).batch_size == 3
    assert as_source(np.arange(10), steps=4, batch_size=5).batch_size == 5
    assert as_source(np.arange(10), fallback_batch_size=4).batch_size == 4
    assert as_source(np.arange(100)).batch_size == 32


@pytest.mark.parametrize("rows", [12, 14])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("caller", ["fit", "evaluate"])
@pytest.mark.parametrize("steps", [None, 2, 7, 9])
def test_several_batches_at_once_are_those_of_the_epoch(rows, shuffle, caller, steps):
    data = {
        "x": {"a": np.arange(rows), "b": np.arange(2.0 * rows).reshape(rows, 2)},
        "y": np.arange(rows) * 3,
    }
    source = as_source(**data, batch_size=4, shuffle=shuffle, seed=2, caller=caller)
    for number in (0, 3):
        expected = list(source.epoch(number, steps))
        epoch = source.rows_of_epoch(number, steps)
        assert epoch.num_batches == len(expected)
        assert [epoch.is_full(i) for i in range(len(expected))] == [len(batch.y) == 4 for batch in expected]
        for first in range(len(expected)):
            jax.tree.map(np.testing.assert_array_equal, epoch.batch(first), expected[first])
            count = 1
            while first + count <= len(expected) and epoch.is_full(first + count - 1):
                stacked = jax.tree.map(lambda *one: np.stack(one), *expected[first : first + count])
                jax.tree.map(np.testing.assert_array_equal, epoch.take(first, count), stacked)
                count += 1


def test_several_batches_of_rows_as_they_stand_are_views():
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    taken = as_source(x, batch_size=2).rows_of_epoch(0).take(1, 2)
    assert taken.x.shape == (2, 2, 2)
    assert taken.y is None
    assert np.shares_memory(taken.x, x)


@pytest.mark.parametrize(("first", "count"), [(0, 3), (2, 1), (1, 3), (-1, 1), (0, 0)])
def test_several_batches_are_full_ones_of_the_epoch(first, count):
    with pytest.raises(ValueError, match=r"of an epoch of 3 are asked for, expected full ones of this epoch"):
        as_source(np.arange(5), batch_size=2).rows_of_epoch(0).take(first, count)


def test_unshuffled_batches_are_views():
    x = np.arange(10, dtype=np.float32)
    assert all(np.shares_memory(batch.x, x) for batch in as_source(x, batch_size=4).epoch(0))


def test_a_missing_y_stays_missing():
    batch = as_source(np.zeros(3)).first_batch()
    assert batch.y is None
    assert len(jax.tree.leaves(batch)) == 1


def test_a_peeked_batch_is_of_the_rows_as_they_stand():
    source = as_source(np.arange(40), batch_size=8, shuffle=True)
    assert source.first_batch().x.tolist() == list(range(8))


def test_shuffling_within_batches_is_refused():
    with pytest.raises(ValueError, match=r"fit: shuffle is 'batch', expected True or False"):
        as_source(np.zeros(4), shuffle="batch")


def test_weights_go_with_their_rows():
    rows = np.arange(20)
    source = as_source(rows, {"a": rows, "b": rows}, {"a": rows / 2, "b": None}, batch_size=6, shuffle=True)
    for batch in source.epoch(0):
        assert batch.sample_weight["a"].dtype == np.float32
        assert np.array_equal(batch.sample_weight["a"] * 2, batch.x)
        assert batch.sample_weight["b"] is None


def test_class_weights_become_weights_of_the_rows():
    source = as_source(np.zeros(4), np.array([2, 0, 1, 2]), class_weight={0: 0.5, 2: 3}, batch_size=3)
    assert [batch.sample_weight.tolist() for batch in source.epoch(0)] == [[3, 0.5, 1], [3]]


def test_validation_data_are_named_as_such():
    with pytest.raises(ValueError, match=r"validation_data\[0\] has 4 rows and validation_data\[1\] has 5"):
        as_source(np.zeros(4), np.zeros(5), caller="validation")


@pytest.mark.parametrize(
    ("x", "y", "batch_size", "message"),
    [
        (np.zeros(4), np.zeros(5), 2, r"x has 4 rows and y has 5, expected the same number\. Check"),
        ({"a": np.zeros(4), "b": np.zeros(3)}, None, 2, r"x\['a'\] has 4 rows and x\['b'\] has 3, expected"),
        (np.zeros((0, 3)), np.zeros(0), 2, r"x has shape \(0, 3\), expected at least one row\. Check"),
        ({}, None, 2, r"x holds no arrays, expected at least one\. Pass"),
        (np.zeros(4), None, 0, r"batch_size is 0, expected an integer of at least 1\. Leave"),
        (np.zeros(4), None, 2.5, r"batch_size is 2\.5, expected an integer"),
        (np.zeros(4), None, True, r"batch_size is True, expected an integer"),
    ],
)
def test_unusable_data_is_refused(x, y, batch_size, message):
    with pytest.raises(ValueError, match=message):
        as_source(x, y, batch_size=batch_size)
