import numpy as np
import pytest

from easyflax.data.index_shuffle import grain_order

index_shuffle = pytest.importorskip(
    "grain._src.python.experimental.index_shuffle.python.index_shuffle_module"
).index_shuffle


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
@pytest.mark.parametrize("num_rows", [1, 2, 3, 101, 2**16, 2**16 + 2, 100_000, 2**18, 2**18 + 2])
def test_the_order_is_that_of_grain(num_rows, seed):
    order = grain_order(num_rows, seed)
    assert np.array_equal(np.sort(order), np.arange(num_rows))
    rows = {0, 1, 2, num_rows // 2, num_rows - 1} if num_rows > 101 else {0, num_rows - 1}
    for row in sorted(rows & set(range(num_rows))):
        assert order[row] == index_shuffle(row, max_index=num_rows - 1, seed=seed, rounds=4)


@pytest.mark.parametrize("num_rows", [2**16 + 1, 2**18 + 1])
def test_a_row_that_grain_reads_twice_is_read_twice(num_rows):
    order = grain_order(num_rows, 3)
    assert order[0] == order[-1] == index_shuffle(num_rows - 1, max_index=num_rows - 1, seed=3, rounds=4)
