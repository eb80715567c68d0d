"""The numbers that `compile` and `fit` take, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from easyflax.layers.dtypes import DTypePolicy


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


def check_steps_per_execution(value: int | str, call: str) -> int | None:
    """Returns how many steps are one dispatch, None for "auto".

    Raises:
        ValueError: it is neither "auto" nor an integer of at least 1.
    """
    if value == "auto":
        return None
    try:
        return check_count("steps_per_execution", value, 1, call)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{error} Or leave it 'auto'.") from None


def is_eager(run_eagerly: bool, jit_compile: Any, jit: bool | None) -> bool:
    """Returns whether steps are to be computed in Python, by the three arguments of `compile` that say so.

    Raises:
        TypeError: `jit` is neither a bool nor None.
        ValueError: one says so, and `jit=True` the opposite.
    """
    if jit is not None and not isinstance(jit, bool):
        raise TypeError(f"compile: jit is {jit!r}, expected True or False. Leave it out to compile steps.")
    eager = bool(run_eagerly) or jit_compile is False
    if jit and eager:
        raise ValueError(
            f"compile: got jit=True with run_eagerly={run_eagerly} and jit_compile={jit_compile!r}, expected "
            "one answer. Leave all but one out."
        )
    return eager or jit is False


def check_precision(precision: Any) -> DTypePolicy | None:
    """Returns the policy that a precision stands for.

    Raises:
        ValueError: it is unknown.
    """
    name = precision.name if isinstance(precision, DTypePolicy) else precision
    if name is not None and name not in _PRECISIONS:
        raise ValueError(
            f"compile: precision is {precision!r}, expected one of {', '.join(map(repr, _PRECISIONS))}, or "
            "None. Pass for example 'mixed_bfloat16'."
        )
    return None if name is None else DTypePolicy(name)


_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16")


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
