"""Which values labels may have: checks on the host, before the first step."""

from __future__ import annotations

import numpy as np

__all__ = ["check_between", "check_indices", "check_whole"]

# How far probabilities may leave [0, 1] by rounding.
_ROUNDING = 1e-6


def check_between(name: str, y: np.ndarray, low: float, high: float, advice: str) -> None:
    """Raises unless all labels are from `low` to `high`; NaN passes.

    Raises:
        ValueError: one is not; the message holds the smallest and the largest.
    """
    smallest, largest = _range(y)
    if smallest < low - _ROUNDING or largest > high + _ROUNDING:
        expected = f"values from {low:g} to {high:g}" if high < np.inf else f"values of at least {low:g}"
        raise ValueError(f"{name}: labels go from {smallest} to {largest}, expected {expected}. {advice}")


def check_whole(name: str, y: np.ndarray, which: str) -> None:
    """Raises unless all labels are whole numbers, of whatever dtype.

    Args:
        name: of the loss.
        y: labels.
        which: what they should be, for the message.

    Raises:
        ValueError: one is not, or the labels are no numbers.
    """
    is_number = y.dtype.kind in "biufV"  # V: the small floating types that jax adds to NumPy
    if is_number and (y.dtype.kind in "biu" or np.all(y == np.floor(y))):
        return
    seen = f" from {_range(y)[0]} to {_range(y)[1]}" if is_number else ""
    raise ValueError(
        f"{name}: labels are {y.dtype}{seen}, expected integer {which}. Pass whole numbers 0, 1, 2 "
        "and so on, or take a loss for continuous targets such as 'mse'."
    )


def check_indices(name: str, y: np.ndarray, classes: int) -> None:
    """Raises unless all labels are whole numbers from 0 to `classes - 1`.

    Raises:
        ValueError: one is not; the message holds the smallest and the largest.
    """
    check_whole(name, y, f"class indices from 0 to {classes - 1} for {classes} classes")
    smallest, largest = _range(y)
    if smallest >= 0 and largest < classes:
        return
    advice = "Renumber the labels from 0"
    if smallest >= 0:
        advice += f", or let the model end in {int(largest) + 1} units"
    raise ValueError(
        f"{name}: labels go from {smallest} to {largest}, expected class indices from 0 to {classes - 1} for "
        f"{classes} classes. {advice}."
    )


def _range(y: np.ndarray) -> tuple[float, float]:
    """Returns the smallest and largest label as Python numbers; zeros for no labels at all."""
    return (np.min(y).item(), np.max(y).item()) if np.size(y) else (0, 0)
