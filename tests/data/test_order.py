import numpy as np

from easyflax.data.order import shuffled_rows


def test_every_pass_reads_every_row_once():
    assert np.array_equal(np.sort(shuffled_rows(101, 3, 7)), np.arange(101))


def test_the_order_depends_on_seed_and_pass_and_on_nothing_else():
    first = shuffled_rows(50, 0, 0).copy()
    others = [shuffled_rows(50, seed, number) for seed, number in [(0, 1), (1, 0), (1, 1)]]
    assert all(not np.array_equal(first, other) for other in others)
    shuffled_rows.cache_clear()
    assert np.array_equal(shuffled_rows(50, 0, 0), first)
