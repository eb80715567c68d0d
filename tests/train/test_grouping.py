import numpy as np
import pytest

from easyflax.data import Batch, as_source
from easyflax.train.callback import Callback
from easyflax.train.callback_list import CallbackList
from easyflax.train.feed import feed_of
from easyflax.train.grouping import Grouping, grouping

X = np.arange(46, dtype=np.float32)[:, None]


class Ignores(Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


class Every(Callback):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def next_batch_needed(self, batch):
        return batch + self.number - 1 - batch % self.number

    def on_train_batch_end(self, batch, logs=None):
        pass


class AnyTime(Ignores):
    def next_batch_needed(self, batch):
        return None


def _how(*callbacks, kind="train", num_batches=100, asked=None, together=64):
    return grouping(kind, CallbackList(list(callbacks)), num_batches, asked, lambda: together)


@pytest.mark.parametrize(
    ("callbacks", "length"),
    [((), 64), ((Ignores(),), 1), ((AnyTime(),), 64), ((AnyTime(), Ignores()), 1)],
    ids=["none", "each", "any time", "both"],
)
def test_hooks_that_are_needed_each_time_end_groups(callbacks, length):
    how = _how(*callbacks)
    assert (how.length, how.is_looped, how.is_fixed) == (length, True, False)


def test_hooks_of_training_leave_evaluation_alone():
    assert _how(Ignores(), kind="test").length == 64


@pytest.mark.parametrize(
    ("batches", "length"), [(1, 1), (2, 2), (5, 8), (8, 8), (63, 64), (1000, 64), (None, 64)]
)
def test_short_epochs_have_short_groups(batches, length):
    assert _how(num_batches=batches).length == length


def test_what_the_user_asks_for_is_kept_to():
    assert _how(Ignores(), asked=7, num_batches=3) == Grouping("train", 7, is_fixed=True, is_looped=True)


def test_steps_that_are_not_fused_are_not_looped():
    assert _how(together=1) == Grouping("train", 1, is_fixed=False, is_looped=False)


def test_a_group_ends_where_a_callback_needs_its_hook():
    callbacks = CallbackList([Every(5), AnyTime()])
    how = grouping("train", callbacks, 100, None, lambda: 16)
    assert [how.most(batch, callbacks) for batch in (0, 3, 4, 5)] == [5, 2, 1, 5]


def _read(source, how, most, done=0):
    feed, groups = feed_of(source, 0, None, how, done=done), []
    while parts := feed.next(most):
        groups.append([[part.at(index).x[:, 0].tolist() for index in range(len(part))] for part in parts])
    feed.close()
    return groups


def _batches():
    for begin in range(0, len(X), 10):
        yield X[begin : begin + 10]


SOURCES = {"arrays": lambda: as_source(X, batch_size=10), "stream": lambda: as_source(_batches)}
EXPECTED = [X[begin : begin + 10, 0].tolist() for begin in range(0, 46, 10)]


@pytest.mark.parametrize("kind", list(SOURCES))
@pytest.mark.parametrize("most", [1, 2, 3, 8])
@pytest.mark.parametrize("is_looped", [True, False])
def test_groups_hold_all_batches_in_order(kind, most, is_looped):
    how = Grouping("train", most if is_looped else 1, is_fixed=True, is_looped=is_looped)
    groups = _read(SOURCES[kind](), how, how.length)
    assert [batch for group in groups for part in group for batch in part] == EXPECTED
    if is_looped:
        assert all(sum(map(len, group)) == most for group in groups[:-1])


@pytest.mark.parametrize("kind", list(SOURCES))
def test_a_feed_begins_after_what_was_done(kind):
    how = Grouping("train", 2, is_fixed=True, is_looped=True)
    groups = _read(SOURCES[kind](), how, 2, done=3)
    assert [batch for group in groups for part in group for batch in part] == EXPECTED[3:]


@pytest.mark.parametrize("kind", list(SOURCES))
def test_stacked_batches_have_room_for_the_longest_group(kind):
    how = Grouping("train", 8, is_fixed=True, is_looped=True)
    (full, ragged) = feed_of(SOURCES[kind](), 0, None, how).next(8)
    assert (full.count, full.batches.x.shape) == (4, (8, 10, 1))
    assert (ragged.count, ragged.batches.x.shape) == (0, (6, 1))


def test_a_stream_of_which_batches_take_long_is_given_out_before_the_group_is_full(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr("easyflax.train.feed.time.perf_counter", lambda: next(now))
    how = Grouping("train", 4, is_fixed=False, is_looped=True)
    groups = _read(as_source(_batches), how, 4)
    assert [sum(map(len, group)) for group in groups] == [1] * 5


def test_several_kinds_of_shapes_come_in_parts():
    def batches():
        for rows in (4, 4, 3, 4, 4, 4):
            yield Batch(np.zeros((rows, 1), np.float32)).x

    how = Grouping("train", 6, is_fixed=True, is_looped=True)
    parts = feed_of(as_source(batches), 0, None, how).next(6)
    assert [(part.count, part.at(0).x.shape[0]) for part in parts] == [(2, 4), (0, 3), (3, 4)]
