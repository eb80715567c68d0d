"""What the values of a variable are brought to after each step of the optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from easyflax.serialization import Configured

__all__ = ["Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"]

# What a norm is divided by at least, as in Keras.
_EPSILON = 1e-7

Axis = int | Sequence[int]


class Constraint(Configured):
    """The base class of constraints, called as `constraint(w)`; subclass it and define `__call__`."""

    def __call__(self, w: jax.Array) -> jax.Array:
        """Returns the value nearest to `w` that is allowed."""
        return w


def _norms(w: jax.Array, axis: Axis) -> jax.Array:
    axes = axis if isinstance(axis, int) else tuple(axis)
    return jnp.sqrt(jnp.sum(jnp.square(w), axis=axes, keepdims=True))


class MaxNorm(Constraint):
    """Scales weights down whose norm along `axis` is above `max_value`.

    Args:
        max_value: the largest norm.
        axis: the axis, or axes, along which a norm is taken: 0 for the inputs of each unit of a Dense layer,
            (0, 1, 2) for those of each filter of a Conv2D.

    Examples:
        >>> import jax.numpy as jnp
        >>> MaxNorm(1.0)(jnp.array([[3.0], [4.0]])).round(3).tolist()
        [[0.6000000238418579], [0.800000011920929]]

    Source: Srivastava et al. 2014, section 5.1, https://jmlr.org/papers/v15/srivastava14a.html
    """

    def __init__(self, max_value: float = 2, axis: Axis = 0):
        self.max_value = max_value
        self.axis = axis

    def __call__(self, w: jax.Array) -> jax.Array:
        norms = _norms(w, self.axis)
        return w * (jnp.clip(norms, 0, self.max_value) / (_EPSILON + norms))


class NonNeg(Constraint):
    """Sets negative weights to zero."""

    def __call__(self, w: jax.Array) -> jax.Array:
        return jnp.maximum(w, 0)


class UnitNorm(Constraint):
    """Scales weights so that their norm along `axis` is one.

    Args:
        axis: as in `MaxNorm`.
    """

    def __init__(self, axis: Axis = 0):
        self.axis = axis

    def __call__(self, w: jax.Array) -> jax.Array:
        return w / (_EPSILON + _norms(w, self.axis))


class MinMaxNorm(Constraint):
    """Scales weights so that their norm along `axis` moves into an interval.

    Args:
        min_value: the smallest norm.
        max_value: the largest norm.
        rate: the share of the way that is gone in one step.
        axis: as in `MaxNorm`.
    """

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Axis = 0):
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        self.axis = axis

    def __call__(self, w: jax.Array) -> jax.Array:
        norms = _norms(w, self.axis)
        goal = self.rate * jnp.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (goal / (_EPSILON + norms))
