"""Checks on the numbers that `fit` takes."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np


def check_count(call: str, name: str, value: int, least: int) -> int:
    """Returns `value` as an int.

    Raises:
        ValueError: it is no integer, or less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(
            f"{call}: {name} is {value!r}, expected an integer of at least {least}. Pass for example "
            f"{name}={max(least, 1)}."
        )
    return int(value)


def validation_epochs(validation_freq: int | Collection[int]) -> Callable[[int], bool]:
    """Returns which epochs, counted from 0, are followed by validation.

    Args:
        validation_freq: every so many epochs, or the numbers of the epochs, counted from 1 as in Keras.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(validation_freq, Collection):
        return lambda epoch: epoch + 1 in validation_freq
    every = check_count("fit", "validation_freq", validation_freq, 1)
    return lambda epoch: (epoch + 1) % every == 0
