"""Means of hinge losses, under Keras's names."""

from __future__ import annotations

from typing import Any

import easyflax.losses as losses
from easyflax.metrics.reduction import NamedMean

__all__ = ["CategoricalHinge", "Hinge", "SquaredHinge"]


class Hinge(NamedMean):
    """The mean of `max(1 - y_true * y_pred, 0)`, for labels -1 and 1, or 0 and 1.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, name: str | None = "hinge", dtype: Any = None):
        super().__init__(losses.hinge, name, dtype)


class SquaredHinge(NamedMean):
    """The mean of `max(1 - y_true * y_pred, 0) ** 2`, for labels -1 and 1, or 0 and 1.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None):
        super().__init__(losses.squared_hinge, name, dtype)


class CategoricalHinge(NamedMean):
    """The mean of by how much the output of the label fails to be 1 above all others.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, name: str | None = "categorical_hinge", dtype: Any = None):
        super().__init__(losses.categorical_hinge, name, dtype)
