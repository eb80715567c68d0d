"""`as_source`: from whatever holds the data to a `Source` of batches."""

from __future__ import annotations

import math
from typing import Any

from easyflax.data.arrays import ArraySource
from easyflax.data.prepare import NAMES, check_batch_size, prepare
from easyflax.data.rows import batch_rows
from easyflax.data.source import Source

VALIDATION_NAMES = ("validation_data[0]", "validation_data[1]", "validation_data[2]")


def as_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    steps: int | None = None,
    class_weight: Any = None,
    caller: str = "fit",
    fallback_batch_size: int | None = None,
) -> Source:
    """Returns a source of batches over what a user hands over as data.

    Args:
        x: inputs, any nesting of dicts, lists and tuples of arrays of shape `(rows, ...)`.
        y: targets, likewise, or None.
        sample_weight: how much each row counts, see `Batch`.
        batch_size: rows of a batch; by default those that make `steps` batches, or 32.
        shuffle: reads the rows in an order of their own for every pass, by `seed`.
        seed: a non-negative integer.
        steps: batches of an epoch, if the user said.
        class_weight: a dict from the number of a class to how much its rows count; 1 for those not in it.
        caller: who reads the data, for the error messages: "fit", "validation", "evaluate" or "predict".
        fallback_batch_size: `batch_size` where none is given and the data come in rows.

    Raises:
        ValueError: the arrays differ in length, are empty or of a dtype that cannot be used, or `batch_size`
            is less than 1.

    Examples:
        >>> import numpy as np
        >>> source = as_source(np.arange(5.0), np.arange(5), batch_size=2)
        >>> [batch.y.tolist() for batch in source.epoch(0)]
        [[0, 1], [2, 3], [4]]
    """
    names = VALIDATION_NAMES if caller == "validation" else NAMES
    data = prepare(x, y, sample_weight, class_weight, names)
    size = fallback_batch_size if batch_size is None else batch_size
    if size is None:
        size = math.ceil(batch_rows(data) / steps) if steps else 32
    return ArraySource(data, check_batch_size(size), seed if shuffle else None)


def as_batches(
    x: Any, y: Any = None, *, batch_size: int | None = None, shuffle: bool = False, seed: int = 0
) -> ArraySource:
    """Returns a source of batches over arrays, see `as_source`."""
    data = prepare(x, y)
    return ArraySource(
        data, check_batch_size(32 if batch_size is None else batch_size), seed if shuffle else None
    )
