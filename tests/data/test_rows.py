import tracemalloc

import numpy as np
import pytest

from easyflax.data import Batch, batch_rows, pad_batch
from easyflax.data.rows import take_rows


def test_a_batch_is_filled_up_with_its_last_row_and_the_mask_tells():
    batch = Batch({"a": np.arange(6.0).reshape(3, 2)}, np.arange(3), [np.array([0.5, 1, 2]), None])
    padded = pad_batch(batch, 5)
    assert padded.x["a"].tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]
    assert padded.y.tolist() == [0, 1, 2, 2, 2]
    assert padded.sample_weight[0].tolist() == [0.5, 1, 2, 2, 2]
    assert padded.mask.tolist() == [True, True, True, False, False]
    assert batch_rows(padded) == 5


def test_a_full_batch_keeps_its_arrays_and_gets_a_mask():
    batch = Batch(np.arange(4))
    padded = pad_batch(batch, 4)
    assert padded.x is batch.x
    assert padded.mask.tolist() == [True] * 4


def test_a_batch_of_more_rows_keeps_them_all():
    assert pad_batch(Batch(np.arange(4)), 3).mask.tolist() == [True] * 4


@pytest.mark.parametrize("layout", ["rows", "columns", "spread", "fields"])
def test_taking_rows_copies_no_others_whatever_the_layout(layout):
    fields = np.zeros(1000, [("a", "i1"), ("b", "f4", 64)])
    fields["b"] = np.arange(64000).reshape(1000, 64)
    array = {
        "rows": np.ascontiguousarray(fields["b"]),
        "columns": np.asfortranarray(fields["b"]),
        "spread": np.repeat(fields["b"], 2, axis=1)[:, ::2],
        "fields": fields["b"],
    }[layout]
    rows = np.array([7, 999, 7, 0])
    tracemalloc.start()
    taken = take_rows({"a": (array, None)}, rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(taken["a"][0][:, 0], rows * 64)
    assert peak < 20_000
