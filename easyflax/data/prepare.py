"""From what users hand over, all of it or one batch, to arrays the device can take and that fit together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from easyflax.data.convert import named_leaves, to_host_arrays
from easyflax.data.source import Batch
from easyflax.data.weights import to_host_weights, weights_of_classes

NAMES = ("x", "y", "sample_weight")


def prepare(
    x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, names: Sequence[str] = NAMES
) -> Batch:
    """Returns the arrays as NumPy arrays, checked, with class weights turned into sample weights.

    Args:
        x: inputs, any nesting of `(rows, ...)` arrays.
        y: targets, likewise, or None.
        sample_weight: see `Batch`.
        class_weight: a dict from the number of a class to its weight, or None.
        names: what the user calls `x`, `y` and `sample_weight`, for the error messages.

    Raises:
        ValueError: an array cannot be used, their lengths differ, there are no rows, or both kinds of weights
            are given.
    """
    if class_weight is not None and sample_weight is not None:
        raise ValueError(
            "class_weight and sample_weight are both given, expected one of them. Multiply the weights of "
            "the classes into sample_weight."
        )
    x, y = to_host_arrays(x, names[0]), to_host_arrays(y, names[1])
    weights = to_host_weights(sample_weight, y, names[2])
    check_rows(x, y, weights, names)
    if class_weight is not None:
        weights = weights_of_classes(y, class_weight, y_name=names[1])
    return Batch(x, y, weights)


def check_rows(x: Any, y: Any = None, sample_weight: Any = None, names: Sequence[str] = NAMES) -> int:
    """Returns how many rows all the arrays have.

    Raises:
        ValueError: `x` holds no array, there is no row, or the lengths differ.
    """
    if not named_leaves(x, names[0]):
        raise ValueError(f"{names[0]} holds no arrays, expected at least one. Pass the inputs as {names[0]}.")
    leaves = [leaf for tree, name in zip((x, y, sample_weight), names) for leaf in named_leaves(tree, name)]
    first_name, first = leaves[0]
    for name, leaf in leaves:
        if len(leaf) != len(first):
            raise ValueError(
                f"{first_name} has {len(first)} rows and {name} has {len(leaf)}, expected the same number. "
                f"Check that both were loaded whole, and filtered or split alike."
            )
    if not len(first):
        raise ValueError(
            f"{first_name} has shape {first.shape}, expected at least one row. Check how the data was "
            f"loaded or split."
        )
    return len(first)


def check_batch_size(batch_size: Any) -> int:
    """Returns `batch_size` as an int.

    Raises:
        ValueError: it is no integer of at least 1.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(
            f"batch_size is {batch_size!r}, expected an integer of at least 1. Leave it out for batches of "
            f"32 rows."
        )
    return int(batch_size)
