import threading
import time
import traceback

import numpy as np
import pytest

from easyflax.data.prefetch import Pace, Prefetch


def _is_alone(timeout=2.0):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not any(thread.name.startswith("easyflax-data") for thread in threading.enumerate()):
            return True
        time.sleep(0.005)
    return False


def test_items_come_in_order_and_the_thread_ends_with_them():
    assert list(Prefetch(number for number in range(100))) == list(range(100))
    assert _is_alone()


def test_no_more_than_two_items_are_read_ahead():
    read = []

    def items():
        for number in range(10):
            read.append(number)
            yield number

    ahead = Prefetch(items())
    assert [next(ahead), next(ahead)] == [0, 1]
    time.sleep(0.1)
    assert len(read) == 4
    assert ahead.close() == [2, 3]
    assert len(read) == 4
    assert _is_alone()


def test_an_exception_comes_after_the_items_before_it_with_its_traceback():
    def fail_here():
        raise KeyError("lost")

    def items():
        yield 1
        yield 2
        fail_here()

    ahead = Prefetch(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(KeyError, match="lost") as caught:
        next(ahead)
    assert "fail_here" in [frame.name for frame in traceback.extract_tb(caught.tb)]
    with pytest.raises(StopIteration):
        next(ahead)
    assert _is_alone()


def test_closing_runs_the_end_of_the_generator():
    ended = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            ended.set()

    ahead = Prefetch(items())
    next(ahead)
    ahead.close()
    assert ended.wait(2)
    assert _is_alone()


def test_the_settings_of_the_caller_hold_in_the_thread():
    def items():
        yield np.float32(1) / np.float32(0)

    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        next(Prefetch(items()))


def _threads(number, seconds):
    for _ in range(number):
        time.sleep(seconds)
        yield threading.get_ident()


def test_what_is_read_quickly_is_read_by_the_loop_and_not_ahead(monkeypatch):
    monkeypatch.setattr("easyflax.data.prefetch.SECONDS_WORTH_A_THREAD", 1.0)
    ahead = Prefetch(_threads(100, 0.0), pace=Pace())
    assert set(ahead) == {threading.get_ident()}
    assert not ahead.is_reading


def test_what_is_slow_goes_on_in_a_thread_and_begins_there_the_next_time():
    pace = Pace()
    first, second = (list(Prefetch(_threads(12, 0.002), pace=pace)) for _ in range(2))
    here = threading.get_ident()
    assert first[0] == here
    assert first[-1] != here
    assert here not in second
    assert _is_alone()


def test_one_long_item_makes_no_thread_and_several_do():
    pace = Pace()
    pace.note(10.0)
    assert not pace.is_slow
    for _ in range(3):
        pace.note(1e-3)
    assert pace.is_slow
    for _ in range(20):
        pace.note(1e-6)
    assert not pace.is_slow


def test_an_exception_and_the_end_come_without_a_thread_as_well():
    ended = []

    def items():
        try:
            yield 1
            raise KeyError("lost")
        finally:
            ended.append(True)

    ahead = Prefetch(items(), pace=Pace())
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="lost"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)
    assert ahead.close() == []
    other = Prefetch(items(), pace=Pace())
    next(other)
    assert other.close() == []
    assert ended == [True, True]
