import numpy as np
import pytest

from easyflax.data.order import shuffled_rows


def test_every_pass_reads_every_row_once():
    assert np.array_equal(np.sort(shuffled_rows(101, 3, 7)), np.arange(101))


def test_the_order_depends_on_seed_and_pass_and_on_nothing_else():
    first = shuffled_rows(50, 0, 0).copy()
    others = [shuffled_rows(50, seed, number) for seed, number in [(0, 1), (1, 0), (1, 1)]]
    assert all(not np.array_equal(first, other) for other in others)
    shuffled_rows.cache_clear()
    assert np.array_equal(shuffled_rows(50, 0, 0), first)


@pytest.mark.parametrize("num_rows", [1000, 2**19, 2**19 + 7])
def test_the_order_is_the_same_at_any_width_of_the_numbers(num_rows):
    generator = np.random.Generator(np.random.Philox(key=np.array([3, 4], np.uint64)))
    assert np.array_equal(shuffled_rows(num_rows, 3, 4), generator.permutation(num_rows))


def test_the_order_of_many_rows_takes_four_bytes_a_row():
    assert shuffled_rows(2**19, 0, 0).nbytes == 2**21
