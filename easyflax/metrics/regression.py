"""Metrics for continuous targets, under Keras's names."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import easyflax.losses as losses
from easyflax.losses.shapes import pair
from easyflax.metrics.reduction import Mean, NamedMean

__all__ = [
    "CosineSimilarity",
    "LogCoshError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "RootMeanSquaredError",
]


class MeanSquaredError(NamedMean):
    """The mean of `(y_true - y_pred) ** 2`.

    Args:
        name: the name in logs.
        dtype: of the result.

    Examples:
        >>> metric = MeanSquaredError()
        >>> metric.update_state([[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]])
        >>> float(metric.result())
        0.25
    """

    _direction = "down"

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None):
        super().__init__(losses.mean_squared_error, name, dtype)


class MeanAbsoluteError(NamedMean):
    """The mean of `|y_true - y_pred|`.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None):
        super().__init__(losses.mean_absolute_error, name, dtype)


class MeanAbsolutePercentageError(NamedMean):
    """The mean of `100 |y_true - y_pred| / |y_true|`, with the divisor at least 1e-7.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None):
        super().__init__(losses.mean_absolute_percentage_error, name, dtype)


class MeanSquaredLogarithmicError(NamedMean):
    """The mean of `(log(y_true + 1) - log(y_pred + 1)) ** 2`, with both values at least 1e-7.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None):
        super().__init__(losses.mean_squared_logarithmic_error, name, dtype)


class LogCoshError(NamedMean):
    """The mean of `log(cosh(y_pred - y_true))`.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, name: str | None = "logcosh", dtype: Any = None):
        super().__init__(losses.log_cosh, name, dtype)


class RootMeanSquaredError(Mean):
    """The square root of the mean of `(y_true - y_pred) ** 2` over all elements.

    Args:
        name: the name in logs.
        dtype: of the result.

    Examples:
        >>> metric = RootMeanSquaredError()
        >>> metric.update_state([[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]])
        >>> float(metric.result())
        0.5
    """

    _weight_zero_leaves_out = True
    _direction = "down"

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: targets `(batch, ...)`.
            y_pred: outputs of the same shape.
            sample_weight: None, `(batch,)` or the shape of the targets.

        Raises:
            ValueError: targets, outputs and weights do not fit.
        """
        targets, outputs = pair(self.name, y_true, y_pred)
        super().update_state(jnp.square(outputs - targets), sample_weight)

    def result(self) -> jax.Array:
        """Returns the root, a scalar; zero before the first value."""
        return jnp.sqrt(super().result())


class CosineSimilarity(NamedMean):
    """The mean of the cosine between vectors: 1 for one direction, -1 for opposite ones, 0 at zero vectors.

    Args:
        name: the name in logs.
        dtype: of the result.
        axis: along which the vectors are.

    Examples:
        >>> metric = CosineSimilarity()
        >>> metric.update_state([[0.0, 1.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 1.0]])
        >>> float(metric.result())
        0.5
    """

    _direction = "up"

    def __init__(self, name: str | None = "cosine_similarity", dtype: Any = None, axis: int = -1):
        super().__init__(_cosine, name, dtype, axis=axis)


def _cosine(y_true: Any, y_pred: Any, axis: int) -> jax.Array:
    return -losses.cosine_similarity(y_true, y_pred, axis=axis)
