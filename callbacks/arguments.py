"""Numbers that callbacks take, checked."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

__all__ = ["check_count", "check_number"]


def check_number(owner: str, least: float = -math.inf, below: float = math.inf, **values: Any) -> None:
    """Raises unless each value is a finite number of at least `least` and less than `below`.

    Args:
        owner: the callback's name, for messages.
        least: the smallest number that will do.
        below: what all numbers that will do are less than.
        **values: the arguments by name.

    Raises:
        TypeError: one is no number.
        ValueError: one is out of bounds.

    Examples:
        >>> check_number("Callback", 0, patience=-1)
        Traceback (most recent call last):
        ValueError: Callback: patience is -1, expected a finite number of at least 0. Pass for example 0.
    """
    bounds = f" of at least {least:g}" if least > -math.inf else ""
    bounds += f"{' and' * bool(bounds)} below {below:g}" if below < math.inf else ""
    for name, value in values.items():
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if is_number and math.isfinite(value) and least <= float(value) < below:
            continue
        raise (ValueError if is_number else TypeError)(
            f"{owner}: {name} is {value!r}, expected a finite number{bounds}. Pass for example "
            f"{max(least, 0):g}."
        )


def check_count(owner: str, least: int, **values: Any) -> None:
    """Raises unless each value is a whole number of at least `least`.

    Raises:
        TypeError: one is no whole number.
        ValueError: one is less.
    """
    for name, value in values.items():
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_whole or int(value) < least:
            raise (ValueError if is_whole else TypeError)(
                f"{owner}: {name} is {value!r}, expected a whole number of at least {least}. Pass for "
                f"example {max(least, 1)}."
            )
