"""The numbers that `compile` and `fit` take, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np


def check_count(name: str, value: int, least: int, call: str = "fit") -> int:
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


def check_count_or_none(name: str, value: int | None, call: str = "fit") -> int | None:
    """Returns `value` as an int of at least 1, or None.

    Raises:
        ValueError: it is neither.
    """
    return None if value is None else check_count(name, value, 1, call)


def check_seed(seed: int) -> int:
    """Returns `seed`.

    Raises:
        ValueError: it is no integer of at least 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(
            f"compile: seed is {seed!r}, expected an integer of at least 0. Pass for example seed=0."
        )
    return seed


def validation_epochs(validation_freq: int | Collection[int]) -> Callable[[int], bool]:
    """Returns which epochs, counted from 0, are followed by validation.

    Args:
        validation_freq: every so many epochs, or the numbers of the epochs, counted from 1 as in Keras.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(validation_freq, Collection):
        return lambda epoch: epoch + 1 in validation_freq
    every = check_count("validation_freq", validation_freq, 1)
    return lambda epoch: (epoch + 1) % every == 0
