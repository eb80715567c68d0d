"""The order of the rows: a pure function of seed and pass, so that a run can be resumed anywhere."""

from __future__ import annotations

import functools

import numpy as np


def positions(number: int, steps: int | None, num_batches: int, *, repeats: bool) -> range:
    """Returns which batches make an epoch, numbered from zero and without end, pass after pass over the data.

    Args:
        number: of the epoch, from 0.
        steps: batches of an epoch; None: all of one pass.
        num_batches: batches of one pass.
        repeats: whether an epoch goes on where the last one ended; else each is the beginning of the data.

    Examples:
        >>> positions(1, 3, 4, repeats=True), positions(1, 5, 4, repeats=False)
        (range(3, 6), range(0, 4))
    """
    steps = num_batches if steps is None else steps
    return range(number * steps, (number + 1) * steps) if repeats else range(min(steps, num_batches))


@functools.lru_cache(maxsize=2)  # the pass being read, and a second source's (validation, another model)
def shuffled_rows(num_rows: int, seed: int, number: int) -> np.ndarray:
    """Returns the row numbers in the order in which pass `number` over the data reads them.

    Args:
        num_rows: rows of the data.
        seed: the model's seed.
        number: which pass over the data, from 0; each has an order of its own.

    Returns:
        `(num_rows,)` integers, read-only, a permutation.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox is keyed by seed and
        pass, so no pass needs the ones before it.
    """
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
    # The order does not depend on the dtype; the smaller one takes longer unless it spares the cache.
    rows = np.arange(num_rows, dtype=np.int32 if 2**19 <= num_rows < 2**31 else np.int64)
    generator.shuffle(rows)
    rows.flags.writeable = False
    return rows
