import threading
import time

import numpy as np
import pytest

from easyflax.data import as_source
from easyflax.data.py_dataset import PyDataset


@pytest.fixture(params=[-1.0, 1e9], ids=["thread", "loop"], autouse=True)
def _reader(request, monkeypatch):
    """Reads all data in a thread, or all in the loop."""
    monkeypatch.setattr("easyflax.data.prefetch.SECONDS_WORTH_A_THREAD", request.param)


class Numbers(PyDataset):
    """Batches of their number, which notes what happens to it."""

    def __init__(self, count=4, fail_at=None, **options):
        super().__init__(**options)
        self.count = count
        self.fail_at = fail_at
        self.events = []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.fail_at:
            raise OSError("disk")
        time.sleep(0.01 * (self.count - index) * (self.workers > 1))  # the last ones are ready first
        return np.full((2, 1), index, np.float32), np.full(2, index)

    def on_epoch_begin(self):
        self.events.append("begin")

    def on_epoch_end(self):
        self.events.append("end")


def _numbers(batches):
    return [int(batch.y[0]) for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_from_any_number_of_workers(workers):
    source = as_source(Numbers(workers=workers, max_queue_size=2))
    assert source.num_batches == 4
    assert [_numbers(source.epoch(number)) for number in range(2)] == [[0, 1, 2, 3]] * 2
    assert not any(thread.name.startswith("easyflax-data") for thread in threading.enumerate())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")  # of os.fork
def test_batches_come_in_order_from_processes():
    source = as_source(Numbers(workers=2, use_multiprocessing=True))
    assert _numbers(source.epoch(0)) == [0, 1, 2, 3]


def test_hooks_are_called_once_an_epoch():
    data = Numbers()
    source = as_source(data)
    source.first_batch()
    for number in range(2):
        list(source.epoch(number))
    assert data.events == ["begin", "end"] * 2


def test_the_length_may_change_from_epoch_to_epoch():
    data = Numbers()
    source = as_source(data)
    list(source.epoch(0))
    data.count = 2
    assert _numbers(source.epoch(1)) == [0, 1]


def test_batches_are_shuffled_anew_each_epoch():
    source = as_source(Numbers(9), shuffle=True, seed=2)
    epochs = [_numbers(source.epoch(number)) for number in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    assert sorted(epochs[0]) == list(range(9))


def test_epochs_of_given_steps_go_on_and_evaluation_does_not():
    source = as_source(Numbers(3), steps=2)
    assert [_numbers(source.epoch(number, 2)) for number in range(2)] == [[0, 1], [2, 0]]
    source = as_source(Numbers(3), steps=2, caller="evaluate")
    assert [_numbers(source.epoch(number, 5)) for number in range(2)] == [[0, 1, 2]] * 2


def test_a_dataset_without_end_needs_steps_and_counts_on():
    class Endless(Numbers):
        num_batches = None

    with pytest.raises(
        ValueError, match=r"x is of type tests\.Endless|Endless.* without end and steps_per_epoch"
    ):
        as_source(Endless())
    source = as_source(Endless(), steps=2)
    assert [_numbers(source.epoch(number, 2)) for number in range(2)] == [[0, 1], [2, 3]]


def test_any_object_with_the_methods_will_do():
    class Sequence:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return [np.zeros((1, 1)), np.full(1, index)]

    assert _numbers(as_source(Sequence()).epoch(0)) == [0, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_is_noted_with_the_batch(workers):
    source = as_source(Numbers(fail_at=2, workers=workers))
    with pytest.raises(OSError, match="disk") as caught:
        list(source.epoch(0))
    assert caught.value.__notes__ == ["fit: raised by the data, for batch 3 of epoch 1."]
    assert not any(thread.name.startswith("easyflax-data") for thread in threading.enumerate())


def test_stopping_early_leaves_no_thread():
    batches = as_source(Numbers(100, workers=1)).epoch(0)
    next(batches)
    batches.close()
    assert not any(thread.name.startswith("easyflax-data") for thread in threading.enumerate())


def test_iterating_gives_each_batch():
    assert [int(y[0]) for _, y in Numbers(3)] == [0, 1, 2]


def test_a_subclass_need_not_call_its_parent():
    class Plain(PyDataset):
        def __init__(self):
            pass

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return np.zeros(2)

    assert len(list(as_source(Plain()).epoch(0))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, r"Numbers: workers is -1, expected an integer of at least 0\. Leave it out for 1"),
        ({"max_queue_size": 0}, r"Numbers: max_queue_size is 0, expected an integer of at least 1\."),
    ],
)
def test_numbers_that_are_too_small_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Numbers(**options)


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match=r"fit: Numbers has length 0, expected at least one batch\."):
        as_source(Numbers(0)).first_batch()
