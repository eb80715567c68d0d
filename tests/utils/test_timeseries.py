import numpy as np
import pytest

from easyflax import utils
from easyflax.data import as_source

SERIES = np.arange(20)


def test_windows_begin_a_stride_apart_and_their_steps_a_rate():
    windows = utils.timeseries_dataset_from_array(
        SERIES, None, sequence_length=3, sequence_stride=4, sampling_rate=2, batch_size=3
    )
    assert len(windows) == 2
    assert [batch.tolist() for batch in windows] == [[[0, 2, 4], [4, 6, 8], [8, 10, 12]], [[12, 14, 16]]]


def test_targets_are_those_of_the_first_steps_and_bound_the_windows():
    windows = utils.timeseries_dataset_from_array(
        SERIES, SERIES[4:] * 10, sequence_length=4, start_index=2, end_index=12, batch_size=None
    )
    assert [(x.tolist(), int(y)) for x, y in windows][:2] == [([2, 3, 4, 5], 60), ([3, 4, 5, 6], 70)]
    assert len(windows) == 7


def test_series_of_several_values_keep_them():
    windows = utils.timeseries_dataset_from_array(np.zeros((9, 2)), np.zeros((9, 3)), sequence_length=4)
    assert [(x.shape, y.shape) for x, y in windows] == [((6, 4, 2), (6, 3))]


def test_shuffled_windows_are_the_same_ones_with_their_targets():
    windows = utils.timeseries_dataset_from_array(SERIES, SERIES, 2, shuffle=True, seed=1, batch_size=None)
    starts = [int(x[0]) for x, _ in windows]
    assert starts != sorted(starts) == list(range(19))
    assert all(x[0] == y for x, y in windows)


def test_windows_are_data_for_training():
    source = as_source(utils.timeseries_dataset_from_array(SERIES, SERIES, 2, batch_size=8), shuffle=True)
    assert source.num_batches == 3
    assert [batch.x[0, 0] for batch in source.epoch(0)] == [0, 8, 16]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 0}, r"sequence_length is 0, expected an integer of at least 1\."),
        ({"sampling_rate": 20}, r"sampling_rate is 20, .* less than 20, the length of the series"),
        ({"start_index": 20}, r"start_index is 20, expected"),
        ({"start_index": 5, "end_index": 5}, r"end_index is 5, expected an integer of at least 6"),
        ({"sequence_length": 30}, r"No window of 30 steps, 1 apart, lies within the 20 steps of"),
        ({"format": "torch"}, r"format is 'torch', expected 'tf' or 'grain'"),
        ({"batch_size": 0}, r"batch_size is 0, expected"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        utils.timeseries_dataset_from_array(SERIES, None, **{"sequence_length": 3, **options})
