"""Losses for continuous targets, as functions and as classes, under Keras's names.

The functions take the mean over the last axis, `(..., n)` to `(...)`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.losses.base import EPSILON, ElementwiseLoss
from easyflax.losses.labels import check_between
from easyflax.losses.reduction import MEAN, Reduction
from easyflax.losses.shapes import Shape, pair

__all__ = [
    "Huber",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "huber",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
]


@symbolic_aware
def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns the mean of `(y_true - y_pred) ** 2` over the last axis.

    Examples:
        >>> mean_squared_error([[0.0, 1.0]], [[2.0, 1.0]])
        Array([2.], dtype=float32)
    """
    targets, outputs = pair("mean_squared_error", y_true, y_pred)
    return optax.losses.squared_error(outputs, targets).mean(axis=-1)


@symbolic_aware
def mean_absolute_error(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns the mean of `|y_true - y_pred|` over the last axis."""
    targets, outputs = pair("mean_absolute_error", y_true, y_pred)
    return jnp.abs(targets - outputs).mean(axis=-1)


@symbolic_aware
def mean_absolute_percentage_error(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns the mean of `100 |y_true - y_pred| / |y_true|`, with the divisor at least 1e-7."""
    targets, outputs = pair("mean_absolute_percentage_error", y_true, y_pred)
    return 100 * jnp.abs((targets - outputs) / jnp.maximum(jnp.abs(targets), EPSILON)).mean(axis=-1)


@symbolic_aware
def mean_squared_logarithmic_error(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns the mean of `(log(y_true + 1) - log(y_pred + 1)) ** 2`, with both values at least 1e-7."""
    both = pair("mean_squared_logarithmic_error", y_true, y_pred)
    targets, outputs = (jnp.log1p(jnp.maximum(value, EPSILON)) for value in both)
    return optax.losses.squared_error(outputs, targets).mean(axis=-1)


@symbolic_aware
def huber(y_true: ArrayLike, y_pred: ArrayLike, delta: float = 1.0) -> jax.Array:
    """Returns the mean of a function of the error that is squared up to `delta` and linear further out.

    Args:
        y_true: targets.
        y_pred: outputs, of the targets' shape.
        delta: the error, in the targets' unit, at which the loss becomes linear.

    Source: Huber 1964, https://doi.org/10.1214/aoms/1177703732
    """
    targets, outputs = pair("huber", y_true, y_pred)
    return optax.losses.huber_loss(outputs, targets, delta=delta).mean(axis=-1)


@symbolic_aware
def log_cosh(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns the mean of `log(cosh(y_pred - y_true))`: squared near zero, linear far out, smooth."""
    targets, outputs = pair("log_cosh", y_true, y_pred)
    return optax.losses.log_cosh(outputs, targets).mean(axis=-1)


@symbolic_aware
def poisson(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns the mean of `y_pred - y_true * log(y_pred)`, for counts and predicted rates."""
    targets, outputs = pair("poisson", y_true, y_pred)
    return (outputs - targets * jnp.log(outputs + EPSILON)).mean(axis=-1)


class MeanSquaredError(ElementwiseLoss):
    """The mean of `(y_true - y_pred) ** 2`."""

    function = staticmethod(mean_squared_error)

    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "mean_squared_error", dtype: Any = None
    ):
        super().__init__(reduction, name, dtype)


class MeanAbsoluteError(ElementwiseLoss):
    """The mean of `|y_true - y_pred|`."""

    function = staticmethod(mean_absolute_error)

    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "mean_absolute_error", dtype: Any = None
    ):
        super().__init__(reduction, name, dtype)


class MeanAbsolutePercentageError(ElementwiseLoss):
    """The mean of `100 |y_true - y_pred| / |y_true|`, with the divisor at least 1e-7."""

    function = staticmethod(mean_absolute_percentage_error)

    def __init__(
        self,
        reduction: Reduction = MEAN,
        name: str | None = "mean_absolute_percentage_error",
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype)


class MeanSquaredLogarithmicError(ElementwiseLoss):
    """The mean of `(log(y_true + 1) - log(y_pred + 1)) ** 2`, with both values at least 1e-7."""

    function = staticmethod(mean_squared_logarithmic_error)

    def __init__(
        self,
        reduction: Reduction = MEAN,
        name: str | None = "mean_squared_logarithmic_error",
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype)


class Huber(ElementwiseLoss):
    """Squared near zero and linear further out than `delta`.

    Args:
        delta: the error, in the targets' unit, at which the loss becomes linear.
        reduction: see `Loss`, as are `name` and `dtype`.
        name: the name in logs.
        dtype: of the computation.

    Source: Huber 1964, https://doi.org/10.1214/aoms/1177703732
    """

    function = staticmethod(huber)
    unwritten = ("delta",)

    def __init__(
        self,
        delta: float = 1.0,
        reduction: Reduction = MEAN,
        name: str | None = "huber_loss",
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype, delta=delta)


class LogCosh(ElementwiseLoss):
    """The mean of `log(cosh(y_pred - y_true))`: squared near zero, linear far out, smooth everywhere."""

    function = staticmethod(log_cosh)

    def __init__(self, reduction: Reduction = MEAN, name: str | None = "log_cosh", dtype: Any = None):
        super().__init__(reduction, name, dtype)


class Poisson(ElementwiseLoss):
    """The mean of `y_pred - y_true * log(y_pred)`, for counts and predicted rates."""

    function = staticmethod(poisson)

    def __init__(self, reduction: Reduction = MEAN, name: str | None = "poisson", dtype: Any = None):
        super().__init__(reduction, name, dtype)

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        super().check_labels(y, output_shape)
        check_between(self.name, y, 0, np.inf, "Pass counts, or take 'mse' for numbers of either sign.")
