"""The order of the rows: a pure function of seed and pass, so that a run can be resumed anywhere."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=2)  # the pass being read, and a second source's (validation, another model)
def shuffled_rows(num_rows: int, seed: int, number: int) -> np.ndarray:
    """Returns the row numbers in the order in which pass `number` over the data reads them.

    Args:
        num_rows: rows of the data.
        seed: the model's seed.
        number: which pass over the data, from 0; each has an order of its own.

    Returns:
        `(num_rows,)` integers, read-only, a permutation.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox is keyed by (seed,
        pass), so
    no pass needs the ones before it.
    """
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
    rows = generator.permutation(num_rows)
    rows.flags.writeable = False
    return rows
