"""Counting batches across epochs, executions of several, and stops."""

import json

from easyflax.callbacks.update_freq import BatchCounter


def due(counter, batches):
    return [batch for batch in batches if counter.is_due(batch)]


def test_batches_are_counted_across_epochs():
    counter = BatchCounter(4)
    assert due(counter, range(6)) == [3]
    counter.start_epoch()
    assert due(counter, range(6)) == [1, 5]
    counter.start()
    assert due(counter, range(6)) == [3]


def test_an_execution_of_several_batches_is_due_where_one_of_them_is():
    counter = BatchCounter(4)
    assert due(counter, [2, 5, 8, 11, 13]) == [5, 8, 11]
    assert counter.total == 14


def test_a_counter_goes_on_within_an_epoch():
    first, second = BatchCounter(4), BatchCounter(4)
    for batch in range(6):
        first.is_due(batch)
    state = json.loads(json.dumps(first.state()))
    second.start()
    second.start_epoch()
    second.restore(state)
    assert due(second, range(6, 10)) == due(first, range(6, 10)) == [7]
    assert second.total == first.total == 10


def test_without_batches_none_is_due():
    assert due(BatchCounter(0), range(5)) == []
