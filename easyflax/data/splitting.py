"""Where validation rows come from: the tail of the training data, or data of their own."""

from __future__ import annotations

import math
from typing import Any

from easyflax.data.prepare import prepare
from easyflax.data.recognise import described, is_arrays
from easyflax.data.rows import batch_rows, take_rows

Data = tuple[Any, Any, Any]


def split_validation(x: Any, y: Any, sample_weight: Any, fraction: float) -> tuple[Data, Data]:
    """Returns `(x, y, sample_weight)` for training and for validation: the last rows, unshuffled, validate.

    Args:
        x: inputs, any nesting of `(rows, ...)` arrays.
        y: targets, likewise, or None.
        sample_weight: likewise, or None.
        fraction: share of the rows for validation, strictly between 0 and 1.

    Raises:
        ValueError: `fraction` is outside `(0, 1)`, or one of the two parts would be empty.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, float | int) or not 0 < fraction < 1:
        raise ValueError(
            f"validation_split is {fraction!r}, expected a number between 0 and 1 (0 for none). Pass the "
            f"share of the rows to validate on, such as 0.1."
        )
    if not is_arrays(x):
        raise ValueError(
            f"validation_split is {fraction} and x is {described(x)}, expected arrays to split. Pass "
            f"validation_data, a dataset of its own, instead."
        )
    data = prepare(x, y, sample_weight)
    rows = batch_rows(data)
    split_at = math.floor(rows * (1.0 - fraction))
    if not 0 < split_at < rows:
        raise ValueError(
            f"validation_split is {fraction} of {rows} rows, expected at least one row on either side. Pass "
            f"more data, another share, or validation_data."
        )
    head, tail = take_rows(data, slice(None, split_at)), take_rows(data, slice(split_at, None))
    return (head.x, head.y, head.sample_weight), (tail.x, tail.y, tail.sample_weight)


def unpack_validation_data(data: Any) -> Data:
    """Returns x, y and sample weights of `validation_data`, None for those that are not there.

    Args:
        data: `(x, y)`, `(x, y, sample_weight)`, or `x` alone or in a tuple, which may be a dataset.

    Raises:
        ValueError: it is a tuple or list of no or of more than three entries.
    """
    if not isinstance(data, tuple | list):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            f"validation_data is a {type(data).__name__} of {len(data)}, expected one to three entries. Pass "
            f"validation_data=(x_val, y_val) or (x_val, y_val, sample_weight_val)."
        )
    x, y, sample_weight = (*data, None, None)[:3]
    return x, y, sample_weight
