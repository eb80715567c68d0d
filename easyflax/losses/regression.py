"""Losses for continuous targets, under Keras's names."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from easyflax.losses.base import ElementwiseLoss

__all__ = [
    "Huber",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
]

# What Keras adds or clips to wherever a division or a logarithm would meet zero.
EPSILON = 1e-7


class MeanSquaredError(ElementwiseLoss):
    """The mean of `(y_true - y_pred) ** 2`."""

    def element(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return optax.losses.squared_error(y_pred, y_true)


class MeanAbsoluteError(ElementwiseLoss):
    """The mean of `|y_true - y_pred|`."""

    def element(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.abs(y_true - y_pred)


class MeanAbsolutePercentageError(ElementwiseLoss):
    """The mean of `100 |y_true - y_pred| / |y_true|`, with the divisor at least 1e-7."""

    def element(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return 100 * jnp.abs(y_true - y_pred) / jnp.maximum(jnp.abs(y_true), EPSILON)


class MeanSquaredLogarithmicError(ElementwiseLoss):
    """The mean of `(log(y_true + 1) - log(y_pred + 1)) ** 2`, with both values at least 1e-7."""

    def element(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        log_true, log_pred = (jnp.log1p(jnp.maximum(value, EPSILON)) for value in (y_true, y_pred))
        return optax.losses.squared_error(log_pred, log_true)


class Huber(ElementwiseLoss):
    """Squared near zero and linear further out than `delta`.

    Args:
        delta: the error, in the targets' unit, at which the loss becomes linear.

    Source: Huber 1964, https://doi.org/10.1214/aoms/1177703732
    """

    def __init__(
        self, delta: float = 1.0, *, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ):
        super().__init__(reduction=reduction, name=name)
        self.delta = delta

    def element(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return optax.losses.huber_loss(y_pred, y_true, delta=self.delta)


class LogCosh(ElementwiseLoss):
    """The mean of `log(cosh(y_pred - y_true))`: squared near zero, linear far out, smooth everywhere."""

    def element(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return optax.losses.log_cosh(y_pred, y_true)
