"""The rows of a batch: taking some, counting them, and filling a batch up to one shape for all."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from easyflax.data.source import Batch


def take_rows(tree: Any, rows: slice | np.ndarray) -> Any:
    """Returns the given rows of every array of `tree`; a slice copies nothing."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten([take(leaf, rows) for leaf in leaves])


def take(array: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    """Returns the given rows of an array."""
    if isinstance(rows, slice) or not (array.flags.c_contiguous and array.flags.aligned):
        return array[rows]
    return array.take(rows, axis=0)  # faster than an index; but it would first copy all of another layout


def batch_rows(batch: Batch) -> int:
    """Returns how many rows `batch` has, padding included."""
    return jax.tree.leaves(batch.x)[0].shape[0]


def pad_batch(batch: Batch, rows: int) -> Batch:
    """Returns `batch` with `rows` rows or more, and a mask of the real ones.

    The last row is repeated, since a real row is a safer filling than zeros (0 / 0).

    Args:
        batch: NumPy arrays without a mask; if it has more rows, it keeps them.
        rows: how many rows there are to be.

    Examples:
        >>> padded = pad_batch(Batch(np.array([7.0, 8.0])), 4)
        >>> padded.x.tolist(), padded.mask.tolist()
        ([7.0, 8.0, 8.0, 8.0], [True, True, False, False])
    """
    real = batch_rows(batch)
    if real < rows:
        batch = take_rows(batch, np.minimum(np.arange(rows), real - 1))
    return batch._replace(mask=np.arange(max(rows, real)) < real)
