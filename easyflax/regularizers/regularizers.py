"""Penalties on the values of a variable or an output, added to the loss."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.serialization import Configured

__all__ = ["L1", "L1L2", "L2", "OrthogonalRegularizer", "Regularizer"]


class Regularizer(Configured):
    """The base class of regularizers, called as `regularizer(x)`; subclass it and define `__call__`."""

    def __call__(self, x: jax.Array) -> Any:
        """Returns the penalty on `x`, a scalar."""
        del x  # nothing is penalized here
        return 0.0


def _strength(owner: str, argument: str, value: float | None, default: float) -> float:
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(
            f"{owner} was given {argument}={value!r}, expected a finite number that is not negative. "
            f"Pass for example {argument}=0.01."
        )
    return float(value)


class L1(Regularizer):
    """Penalizes with `l1 * sum(|x|)`.

    Args:
        l1: the strength.

    Examples:
        >>> import jax.numpy as jnp
        >>> float(L1(0.5)(jnp.array([1.0, -3.0])))
        2.0
    """

    def __init__(self, l1: float | None = 0.01):
        self.l1 = _strength("L1", "l1", l1, 0.01)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.asarray(self.l1, x.dtype) * jnp.sum(jnp.abs(x))


class L2(Regularizer):
    """Penalizes with `l2 * sum(x ** 2)`.

    Args:
        l2: the strength.

    Examples:
        >>> import jax.numpy as jnp
        >>> float(L2(0.5)(jnp.array([1.0, -3.0])))
        5.0
    """

    def __init__(self, l2: float | None = 0.01):
        self.l2 = _strength("L2", "l2", l2, 0.01)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.asarray(self.l2, x.dtype) * jnp.sum(jnp.square(x))


class L1L2(Regularizer):
    """Penalizes with `l1 * sum(|x|) + l2 * sum(x ** 2)`.

    Args:
        l1: the strength of the first term.
        l2: the strength of the second term.

    Examples:
        >>> import jax.numpy as jnp
        >>> float(L1L2(l1=1.0, l2=0.5)(jnp.array([1.0, -3.0])))
        9.0
    """

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0):
        self.l1 = _strength("L1L2", "l1", l1, 0.0)
        self.l2 = _strength("L1L2", "l2", l2, 0.0)

    def __call__(self, x: jax.Array) -> jax.Array:
        penalty = jnp.zeros((), x.dtype)
        if self.l1:
            penalty += jnp.asarray(self.l1, x.dtype) * jnp.sum(jnp.abs(x))
        if self.l2:
            penalty += jnp.asarray(self.l2, x.dtype) * jnp.sum(jnp.square(x))
        return penalty


class OrthogonalRegularizer(Regularizer):
    """Penalizes rows of a matrix that are not orthogonal: `factor` times the mean |cosine| of their pairs.

    Args:
        factor: the strength.
        mode: `"rows"` or `"columns"`.

    Raises:
        ValueError: an argument is none of these, or what is penalized is not a matrix.

    Examples:
        >>> import jax.numpy as jnp
        >>> float(OrthogonalRegularizer(1.0)(jnp.eye(3)))
        0.0
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        self.factor = _strength("OrthogonalRegularizer", "factor", factor, 0.01)
        if mode not in ("rows", "columns"):
            raise ValueError(
                f"OrthogonalRegularizer was given mode={mode!r}, expected 'rows' or 'columns'. "
                "Pass one of these."
            )
        self.mode = mode

    def __call__(self, x: jax.Array) -> jax.Array:
        if x.ndim != 2:
            raise ValueError(
                f"OrthogonalRegularizer was given a variable of shape {x.shape}, expected a matrix with two "
                "axes. Use another regularizer for it, such as L2."
            )
        rows = x if self.mode == "rows" else x.T
        # Bounded from below under the root, so that a row of zeros has no NaN in its gradient.
        rows = rows * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(rows), axis=1, keepdims=True), 1e-14))
        cosines = rows @ rows.T
        size = rows.shape[0]
        off_diagonal = cosines * (1 - jnp.eye(size, dtype=x.dtype))
        return self.factor * 0.5 * jnp.sum(jnp.abs(off_diagonal)) / (size * (size - 1) / 2)
