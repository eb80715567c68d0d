import jax
import numpy as np
import pytest

from easyflax.data import as_batches


def _rows(source, start, stop):
    return [batch.x.tolist() for batch in source.batches(start, stop)]


def test_batches_cover_all_rows_in_order_and_the_last_has_what_is_left():
    source = as_batches(np.arange(7), batch_size=3)
    assert source.num_batches == 3
    assert _rows(source, 0, 3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert [source.real_rows(position) for position in range(4)] == [3, 3, 1, 3]


def test_x_and_y_are_shuffled_alike_and_anew_in_each_pass():
    source = as_batches(np.arange(40), np.arange(40) * 2, batch_size=8, shuffle=True, seed=5)
    passes = [list(source.batches(start, start + 5)) for start in (0, 5)]
    for batches in passes:
        assert all(np.array_equal(batch.x * 2, batch.y) for batch in batches)
        assert sorted(np.concatenate([batch.x for batch in batches])) == list(range(40))
    assert not np.array_equal(passes[0][0].x, passes[1][0].x)


def test_reading_may_start_anywhere():
    source = as_batches(np.arange(50), batch_size=7, shuffle=True, seed=1)
    assert _rows(source, 11, 15) == _rows(source, 0, 15)[11:]


def test_padded_batches_have_one_shape_and_mark_the_real_rows():
    source = as_batches({"a": np.arange(10.0)}, batch_size=4).padded(multiple_of=3)
    batches = list(source.batches(0, source.num_batches))
    assert [batch.x["a"].shape for batch in batches] == [(6,)] * 3
    real = np.concatenate([batch.x["a"][batch.mask] for batch in batches])
    assert real.tolist() == list(range(10))
    assert batches[-1].x["a"].tolist() == [8, 9, 9, 9, 9, 9]


def test_a_batch_size_beyond_the_data_pads_no_further_than_the_data():
    batch = as_batches(np.arange(5), batch_size=100).padded(multiple_of=2).batch(0)
    assert batch.x.shape == (6,)
    assert batch.mask.sum() == 5


def test_unshuffled_batches_are_views():
    x = np.arange(10, dtype=np.float32)
    assert np.shares_memory(as_batches(x, batch_size=4).batch(1).x, x)


def test_a_missing_y_stays_missing():
    batch = as_batches(np.zeros(3)).batch(0)
    assert batch.y is None
    assert len(jax.tree.leaves(batch)) == 1


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
        as_batches(x, y, batch_size=batch_size)
