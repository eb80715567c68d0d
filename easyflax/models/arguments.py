"""From the numbers that `fit` takes to a plan, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from easyflax.data import ArraySource
from easyflax.train.loop import Plan, Validation


def plan_epochs(
    source: ArraySource,
    epochs: int,
    initial_epoch: int,
    steps_per_epoch: int | None,
    validation: Validation | None,
) -> Plan:
    """Returns what a fit with these arguments is to do.

    Raises:
        ValueError: a number is none, or too small.
    """
    steps = source.num_batches if steps_per_epoch is None else steps_per_epoch
    return Plan(
        source,
        steps_per_epoch=check_count("steps_per_epoch", steps, 1),
        epochs=check_count("epochs", epochs, 1),
        initial_epoch=check_count("initial_epoch", initial_epoch, 0),
        validation=validation,
    )


def check_count(name: str, value: int, least: int) -> int:
    """Returns `value` as an int.

    Raises:
        ValueError: it is no integer, or less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(
            f"fit: {name} is {value!r}, expected an integer of at least {least}. Pass for example "
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
    every = check_count("validation_freq", validation_freq, 1)
    return lambda epoch: (epoch + 1) % every == 0
