"""Sources that are looked at, and rows in batches of another size."""

import types

import numpy as np

from easyflax.data import WatchedSource, as_source, batch_rows, rebatched

X = np.arange(10.0)


def test_each_batch_is_seen_before_it_is_given():
    seen = []
    source = WatchedSource(as_source(X, batch_size=4), lambda *where: seen.append(where))
    given = []
    for batch in source.epoch(3):
        assert seen[-1][:2] == (3, len(given))
        assert seen[-1][2] is batch
        given.append(batch)
    assert [batch_rows(batch) for batch in given] == [4, 4, 2]
    assert source.first_batch().x.tolist() == [0, 1, 2, 3]
    assert len(seen) == 3
    facts = source.batch_size, source.num_rows, source.num_batches, source.is_exhausted, source.state()
    assert facts == (4, 10, 3, False, None)
    source.set_state(None)


def test_a_watched_stream_is_closed_with_its_epoch():
    closed = []

    def batches():
        try:
            while True:
                yield X
        finally:
            closed.append(True)

    inner = types.SimpleNamespace(epoch=lambda number, steps: batches())
    running = WatchedSource(inner, lambda *where: None).epoch(0)
    next(running)
    assert not closed
    running.close()
    assert closed


def test_rows_are_batched_anew_through_what_watches():
    inner = as_source(X, batch_size=4, shuffle=True, seed=0)
    seen = []
    source = WatchedSource(WatchedSource(inner, lambda *where: seen.append(where)), lambda *where: None)
    other = rebatched(source, 5)
    assert source.data is inner.data
    assert [batch_rows(batch) for batch in other.epoch(0)] == [5, 5]
    assert (other.batch_size, other.num_batches, inner.batch_size, inner.num_batches) == (5, 2, 4, 3)
    assert len(seen) == 2
    order = [np.concatenate([batch.x for batch in one.epoch(0)]).tolist() for one in (inner, other)]
    assert order[0] == order[1]


def test_batches_of_their_own_stay_as_they_are():
    assert rebatched(as_source(lambda: iter([X]), steps=1), 5) is None
    assert rebatched(WatchedSource(as_source(lambda: iter([X]), steps=1), print), 5) is None
