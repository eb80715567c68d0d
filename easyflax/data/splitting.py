"""Where validation rows come from: the tail of the training data, or data of their own."""

from __future__ import annotations

import math
from typing import Any

import jax

from easyflax.data.arrays import common_length
from easyflax.data.convert import named_leaves, to_host_arrays


def split_validation(x: Any, y: Any, fraction: float) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Returns `(x, y)` for training and for validation: the last rows, unshuffled, are for validation.

    Args:
        x: inputs, any nesting of `(rows, ...)` arrays.
        y: targets, likewise.
        fraction: share of the rows for validation, strictly between 0 and 1.

    Raises:
        ValueError: `fraction` is outside `(0, 1)`, or one of the two parts would be empty.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, float | int) or not 0 < fraction < 1:
        raise ValueError(
            f"validation_split is {fraction!r}, expected a number between 0 and 1 (0 for none). Pass the "
            f"share of the rows to validate on, such as 0.1."
        )
    x, y = to_host_arrays(x, "x"), to_host_arrays(y, "y")
    rows = common_length(named_leaves(x, "x") + named_leaves(y, "y"))
    split_at = math.floor(rows * (1.0 - fraction))
    if not 0 < split_at < rows:
        raise ValueError(
            f"validation_split is {fraction} of {rows} rows, expected at least one row on either side. Pass "
            f"more data, another share, or validation_data."
        )
    head, tail = slice(None, split_at), slice(split_at, None)
    return _slice((x, y), head), _slice((x, y), tail)


def unpack_validation_data(data: Any) -> tuple[Any, Any]:
    """Returns x and y of `validation_data`.

    Raises:
        ValueError: it is no pair.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        size = f" of {len(data)}" if isinstance(data, tuple | list | dict) else ""
        raise ValueError(
            f"validation_data is a {type(data).__name__}{size}, expected a pair. "
            f"Pass validation_data=(x_val, y_val)."
        )
    return data[0], data[1]


def _slice(pair: tuple[Any, Any], rows: slice) -> tuple[Any, Any]:
    return jax.tree.map(lambda array: array[rows], pair)
