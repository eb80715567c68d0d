import itertools
import threading
import time

import jax
import numpy as np
import pytest

from easyflax.data import as_source


@pytest.fixture(params=[-1.0, 1e9], ids=["thread", "loop"], autouse=True)
def _reader(request, monkeypatch):
    """Reads all data in a thread, or all in the loop."""
    monkeypatch.setattr("easyflax.data.prefetch.SECONDS_WORTH_A_THREAD", request.param)


def _batches(count, rows=2):
    for number in range(count):
        yield np.full((rows, 1), number, np.float32), np.full(rows, number)


def _numbers(batches):
    return [int(batch.y[0]) for batch in batches]


class Restartable:
    """An iterable of batches that notes how often it is opened."""

    def __init__(self, count):
        self.count = count
        self.opened = 0

    def __iter__(self):
        self.opened += 1
        return _batches(self.count)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    deadline = time.monotonic() + 2
    while any(thread.name.startswith("easyflax-data") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a thread is left behind"
        time.sleep(0.005)


# -- where epochs begin


def test_an_iterable_begins_anew_for_each_epoch():
    data = Restartable(3)
    source = as_source(data)
    assert [_numbers(source.epoch(number)) for number in range(3)] == [[0, 1, 2]] * 3
    assert data.opened == 3
    assert source.num_batches == 3
    assert not source.is_exhausted


def test_epochs_of_given_steps_go_on_in_an_iterable_and_around_its_end():
    source = as_source(Restartable(3), steps=2)
    assert [_numbers(source.epoch(number, 2)) for number in range(4)] == [[0, 1], [2, 0], [1, 2], [0, 1]]


def test_a_generator_goes_on_from_epoch_to_epoch_and_ends_for_good():
    source = as_source(_batches(5), steps=2)
    epochs = []
    while not source.is_exhausted:
        epochs.append(_numbers(source.epoch(len(epochs), 2)))
    assert epochs == [[0, 1], [2, 3], [4]]
    assert _numbers(source.epoch(3, 2)) == []


def test_without_steps_a_generator_is_read_to_its_end_once():
    source = as_source(_batches(3))
    assert _numbers(source.epoch(0)) == [0, 1, 2]
    assert source.is_exhausted
    assert source.num_batches == 3


def test_a_function_that_returns_a_generator_begins_anew():
    source = as_source(lambda: _batches(2))
    assert [_numbers(source.epoch(number)) for number in range(2)] == [[0, 1], [0, 1]]


def test_no_more_is_read_than_the_steps_ask_for():
    read = []

    def data():
        for number, batch in enumerate(_batches(10)):
            read.append(number)
            yield batch

    source = as_source(data(), steps=3)
    assert len(list(source.epoch(0, 3))) == 3
    assert read == [0, 1, 2]


def test_what_was_read_ahead_of_a_stop_is_not_lost():
    source = as_source(_batches(6), steps=4)
    batches = source.epoch(0, 4)
    assert _numbers([next(batches)]) == [0]
    batches.close()
    assert _numbers(source.epoch(1, 4)) == [1, 2, 3, 4]


def test_evaluation_reads_the_beginning_each_time_and_stops_at_the_end():
    source = as_source(Restartable(3), caller="validation", steps=2)
    assert [_numbers(source.epoch(0, 2)) for _ in range(2)] == [[0, 1], [0, 1]]
    assert _numbers(source.epoch(0, 5)) == [0, 1, 2]


# -- peeking


def test_a_peeked_batch_is_not_consumed():
    data = Restartable(2)
    source = as_source(data)
    assert source.batch_size == 2
    assert _numbers([source.first_batch(), source.first_batch()]) == [0, 0]
    assert _numbers(source.epoch(0)) == [0, 1]
    assert data.opened == 1


def test_peeking_between_epochs_shows_what_comes_next():
    source = as_source(_batches(4), steps=2)
    list(source.epoch(0, 2))
    assert _numbers([source.first_batch()]) == [2]
    assert _numbers(source.epoch(1, 2)) == [2, 3]


# -- what batches are


@pytest.mark.parametrize("kind", [tuple, list])
def test_batches_are_inputs_targets_and_weights(kind):
    x, y, weight = np.zeros((2, 1)), np.arange(2), np.array([1, 2])
    for parts in ([x], [x, y], [x, y, weight]):
        batch = as_source(iter([kind(parts)])).first_batch()
        assert batch.x.dtype == np.float32
        assert [part is None for part in batch] == [False, len(parts) < 2, len(parts) < 3, True]


def test_an_array_or_a_dict_is_the_inputs():
    assert as_source(iter([np.zeros((2, 1))])).first_batch().y is None
    assert sorted(as_source(iter([{"a": np.zeros(2), "b": np.zeros(2)}])).first_batch().x) == ["a", "b"]


def test_class_weights_count_in_each_batch():
    source = as_source(_batches(3), class_weight={1: 5.0})
    assert [batch.sample_weight.tolist() for batch in source.epoch(0)] == [[1, 1], [5, 5], [1, 1]]


def test_prediction_looks_at_the_inputs_alone():
    batch = as_source(iter([(np.zeros(2), np.array(["a", "b"]))]), caller="predict").first_batch()
    assert batch.y is None


def test_batches_may_differ_in_rows_and_lengths():
    source = as_source(iter([np.zeros((2, 3)), np.zeros((1, 5))]))
    assert [batch.x.shape for batch in source.epoch(0)] == [(2, 3), (1, 5)]


X, Y = np.zeros((2, 1), np.float32), np.arange(2, dtype=np.int32)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ((None, Y), r"fit: batch 2 of epoch 1: x is None, expected the inputs\. Yield"),
        ((X, Y[:1]), r"fit: batch 2 of epoch 1: x has 2 rows and y has 1, expected the same"),
        ((X, Y.astype(np.float32)), r"y has dtype float32 and 1 axes, expected int32 and 1 as in the first"),
        ((X[:, :, None], Y), r"x has dtype float32 and 3 axes, expected float32 and 2 as in the first"),
        ((X,), r"the arrays are x, expected x, y, as in the first batch\. Yield"),
        (({"a": X}, Y), r"the arrays are x\['a'\], y, expected x, y, as in the first batch"),
        ((X, np.array(["a", "b"])), r"fit: batch 2 of epoch 1: y has dtype <U1, expected numbers"),
        ((X[:0], Y[:0]), r"fit: batch 2 of epoch 1: x has shape \(0, 1\), expected at least one row"),
        ((X, Y, Y, Y), r"The data have 4 parts, expected \(x,\), \(x, y\) or"),
        ((X, np.int32(1)), r"fit: batch 2 of epoch 1: y has shape \(\), expected rows along a first axis"),
        (
            (X, Y + np.int64(2**40)),
            r"fit: batch 2 of epoch 1: y has dtype int64 and values from 1099511627776 to",
        ),
        (({1: X, "a": X}, Y), r"fit: batch 2 of epoch 1: x is a dict whose keys cannot be compared"),
    ],
    ids=[
        "none",
        "rows",
        "dtype",
        "axes",
        "no y",
        "nesting",
        "strings",
        "empty",
        "parts",
        "no axis",
        "large",
        "keys",
    ],
)
def test_strange_batches_are_told_by_their_number(second, message):
    source = as_source(iter([(X, Y), second]))
    with pytest.raises(ValueError, match=message):
        list(source.epoch(0))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((X, Y), (X + 1, Y + 3)),
        ((X, Y), (X[:1].astype(np.float64), Y[:1].astype(np.int64))),
        ((X.astype(np.float64), Y), (X, Y)),
        ((X, Y, Y), (X, Y, Y.astype(np.float32) + 2)),
        ((X, Y, Y.astype(np.float32)), (X, Y, Y + 2)),
        (({"b": X, "a": [Y, Y]}, (Y, Y), (Y, None)), ({"a": [Y, Y], "b": X + 1}, (Y, Y), (Y + 1, None))),
        ([X, Y], (X + 2, [Y][0])),
    ],
    ids=["plain", "wider", "first wider", "first int weights", "int weights", "nested", "list"],
)
def test_a_batch_after_the_first_is_what_it_is_alone(first, second):
    expected = as_source(iter([second])).first_batch()
    last = list(as_source(iter([first, second])).epoch(0))[-1]
    assert jax.tree.structure(last) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


def test_an_exception_of_the_data_keeps_its_type_and_is_noted():
    def data():
        yield X, Y
        yield X, Y
        raise OSError("disk")

    source = as_source(data, steps=1)
    list(source.epoch(0, 1))
    batches = source.epoch(1, 4)
    assert next(batches).y is not None
    with pytest.raises(OSError, match="disk") as caught:
        next(batches)
    assert caught.value.__notes__ == ["fit: raised by the data, for batch 2 of epoch 2."]
    assert "data" in [entry.name for entry in caught.traceback]


# -- bad data


def test_an_empty_stream_is_refused():
    with pytest.raises(ValueError, match=r"evaluate: a generator yielded no batch, expected at least one\."):
        as_source(_batches(0), caller="evaluate").first_batch()


def test_an_iterable_that_cannot_begin_anew_says_so():
    class Once:
        def __init__(self):
            self.batches = _batches(2)

        def __iter__(self):
            return self.batches

    source = as_source(Once())
    assert _numbers(source.epoch(0)) == [0, 1]
    with pytest.raises(
        ValueError, match=r"yielded no batch when it was read again, expected.*a function that"
    ):
        list(source.epoch(1))


@pytest.mark.parametrize(
    ("caller", "argument"),
    [
        ("fit", "steps_per_epoch"),
        ("validation", "validation_steps"),
        ("evaluate", "steps"),
        ("predict", "steps"),
    ],
)
def test_data_without_end_need_steps(caller, argument):
    for data in (itertools.count(), itertools.cycle([X]), itertools.repeat(X)):
        with pytest.raises(
            ValueError, match=rf"{caller}: x is of type itertools.* end and {argument} is None"
        ):
            as_source(data, caller=caller)


def test_data_without_end_are_read_by_steps():
    source = as_source(itertools.cycle(list(_batches(3))), steps=2)
    assert [_numbers(source.epoch(number, 2)) for number in range(2)] == [[0, 1], [2, 0]]
    assert len(list(as_source(itertools.repeat((X, Y), 3)).epoch(0))) == 3


@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_targets_beside_a_dataset_are_refused(name):
    with pytest.raises(ValueError, match=rf"fit: {name} is given and x is a generator, expected all in x"):
        as_source(_batches(2), **{name: np.zeros(2)})


def test_a_batch_size_beside_batches_is_refused_but_not_the_fallback():
    with pytest.warns(UserWarning, match=r"fit: batch_size is 4 and x is a generator, which yields batches"):
        as_source(_batches(2), batch_size=4)
    assert as_source(_batches(2), fallback_batch_size=4).batch_size == 2


def test_what_holds_no_data_is_refused():
    with pytest.raises(ValueError, match=r"x is of type object, expected arrays, a dataset, a generator"):
        as_source(object())


# -- going on after a restart


@pytest.mark.parametrize("steps", [None, 2])
def test_reading_goes_on_where_the_state_was_taken(steps):
    first = as_source(lambda: _batches(5), steps=steps)
    list(first.epoch(0, steps))
    batches = first.epoch(1, steps)
    next(batches)
    state = first.state()
    rest = _numbers(batches)
    second = as_source(lambda: _batches(5), steps=steps)
    second.set_state(state)
    assert second.state() == state
    assert _numbers(second.epoch(1, None if steps is None else 1)) == rest


# -- when there is no good end


def test_evaluation_of_a_generator_goes_on_and_ends():
    source = as_source(_batches(3), caller="validation", steps=2)
    assert [_numbers(source.epoch(0, 2)) for _ in range(2)] == [[0, 1], [2]]
    assert source.is_exhausted
    assert source.batch_size == 2
    assert _numbers(source.epoch(0, 2)) == []


def test_a_generator_that_does_not_come_back_is_left_alone(monkeypatch):
    monkeypatch.setattr("easyflax.data.prefetch.SECONDS_WORTH_A_THREAD", -1.0)
    monkeypatch.setattr("easyflax.data.prefetch.SECONDS_TO_STOP", 0.05)
    release = threading.Event()

    def data():
        yield X, Y
        release.wait(10)
        yield X, Y

    source = as_source(data())
    batches = source.epoch(0)
    next(batches)
    batches.close()
    assert source.is_exhausted
    release.set()


def test_an_exception_in_the_loop_ends_the_thread():
    def train(source):
        for _ in source.epoch(0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(as_source(_batches(100)))
