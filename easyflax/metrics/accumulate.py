"""Sums on the device that stay exact over any number of batches.

A float32 counter stops counting at 2**24: adding one to 16,777,216 changes nothing. A `Total` carries the
rounding error of its sum in a second float32, which makes counts exact up to 2**48 and sums nearly as good as
in float64, in float32 arithmetic that every device has.

Source: Knuth, The Art of Computer Programming 2, section 4.2.2, theorem B.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Total", "add", "mean", "zero"]


class Total(NamedTuple):
    """A sum of float32 numbers as `high + low`, where `low` is what `high` could not hold."""

    high: jax.Array  # ()
    low: jax.Array  # ()


def zero() -> Total:
    """Returns the empty sum."""
    return Total(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))


def add(total: Total, amount: jax.Array) -> Total:
    """Returns `total + amount`, with the rounding error kept."""
    amount = jnp.asarray(amount, jnp.float32)
    rounded, error = _two_sum(total.high, amount)
    # The error of an overflowed sum is NaN: the sum itself, infinite, says more.
    error = jnp.where(jnp.isfinite(rounded), total.low + error, 0)
    return _normalised(rounded, error)


def mean(total: Total, weight: Total) -> jax.Array:
    """Returns `total / weight` as a float32 scalar, and zero where nothing was added."""
    divisor = weight.high + weight.low
    return jnp.where(divisor == 0, 0, (total.high + total.low) / jnp.where(divisor == 0, 1, divisor))


def _two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    rounded = a + b
    b_seen = rounded - a
    return rounded, (a - (rounded - b_seen)) + (b - b_seen)


def _normalised(high: jax.Array, low: jax.Array) -> Total:
    rounded = high + low
    return Total(rounded, jnp.where(jnp.isfinite(rounded), low - (rounded - high), 0))
