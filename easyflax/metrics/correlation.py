"""How far outputs rise and fall with targets, in each row, as functions and as metrics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.losses.shapes import pair
from easyflax.metrics.reduction import NamedMean

__all__ = [
    "ConcordanceCorrelation",
    "PearsonCorrelation",
    "concordance_correlation",
    "pearson_correlation",
]

_EPSILON = 1e-7


@symbolic_aware
def pearson_correlation(y_true: ArrayLike, y_pred: ArrayLike, axis: int = -1) -> jax.Array:
    """Returns Pearson's correlation along an axis: from -1 to 1, NaN where one of both does not vary.

    Args:
        y_true: targets.
        y_pred: outputs of the same shape.
        axis: the axis along which they are correlated.

    Examples:
        >>> pearson_correlation([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]).round(4).tolist()
        [1.0]
    """
    both = pair("pearson_correlation", y_true, y_pred)
    targets, outputs = (values - values.mean(axis=axis, keepdims=True) for values in both)
    targets, outputs = (values / values.std(axis=axis, keepdims=True) for values in (targets, outputs))
    return (targets * outputs).mean(axis=axis)


@symbolic_aware
def concordance_correlation(y_true: ArrayLike, y_pred: ArrayLike, axis: int = -1) -> jax.Array:
    """Returns Lin's concordance along an axis: the correlation, less where means or scales differ.

    Args:
        y_true: targets.
        y_pred: outputs of the same shape.
        axis: the axis along which they are compared.

    Source: Lin 1989, https://doi.org/10.2307/2532051
    """
    targets, outputs = pair("concordance_correlation", y_true, y_pred)
    target_mean, output_mean = (values.mean(axis=axis, keepdims=True) for values in (targets, outputs))
    variances = targets.var(axis=axis, keepdims=True) + outputs.var(axis=axis, keepdims=True)
    covariance = ((targets - target_mean) * (outputs - output_mean)).mean(axis=axis, keepdims=True)
    whole = variances + (target_mean - output_mean) ** 2 + _EPSILON
    return jnp.squeeze(2 * covariance / whole, axis=axis)


class PearsonCorrelation(NamedMean):
    """The mean of Pearson's correlation of each row.

    Args:
        name: the name in logs.
        dtype: of the result.
        axis: the axis along which targets and outputs are correlated; for the last, rows of one element have
            no correlation.
    """

    _direction = "up"

    def __init__(self, name: str | None = "pearson_correlation", dtype: Any = None, axis: int = -1):
        super().__init__(pearson_correlation, name, dtype, axis=axis)


class ConcordanceCorrelation(NamedMean):
    """The mean of Lin's concordance of each row.

    Args:
        name: the name in logs.
        dtype: of the result.
        axis: the axis along which targets and outputs are compared.
    """

    _direction = "up"

    def __init__(self, name: str | None = "concordance_correlation", dtype: Any = None, axis: int = -1):
        super().__init__(concordance_correlation, name, dtype, axis=axis)
