"""Initializers that draw nothing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from easyflax.initializers.base import Initializer, Shape
from easyflax.serialization import deserialize

__all__ = ["Array", "Constant", "Identity", "Ones", "Zeros"]


def _floating(dtype: DTypeLike | None) -> DTypeLike:
    return jnp.float32 if dtype is None else dtype


def full(shape: Shape, value: Any, dtype: DTypeLike) -> jax.Array:
    """Returns an array of one number; unlike `jnp.full`, which does for each shape, it compiles nothing."""
    return jax.device_put(np.broadcast_to(np.asarray(value, dtype), tuple(shape)))


class Zeros(Initializer):
    """Fills with 0."""

    def __call__(self, shape: Shape, dtype: DTypeLike | None = None) -> jax.Array:
        return full(shape, 0, _floating(dtype))


class Ones(Initializer):
    """Fills with 1."""

    def __call__(self, shape: Shape, dtype: DTypeLike | None = None) -> jax.Array:
        return full(shape, 1, _floating(dtype))


class Constant(Initializer):
    """Fills with one value, or with an array that broadcasts to the shape.

    Args:
        value: a number or an array.
    """

    def __init__(self, value: ArrayLike | dict[str, Any] = 0.0):
        self.value = deserialize(value)

    def __call__(self, shape: Shape, dtype: DTypeLike | None = None) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(self.value, _floating(dtype)), tuple(shape))


class Array(Initializer):
    """Starts at the given array, which must have the shape of the variable.

    Args:
        value: the array.
    """

    def __init__(self, value: ArrayLike | dict[str, Any]):
        self.value = deserialize(value)

    def __call__(self, shape: Shape, dtype: DTypeLike | None = None) -> jax.Array:
        value = jnp.asarray(self.value, _floating(dtype))
        if value.shape != tuple(shape):
            raise ValueError(
                f"An array of shape {value.shape} was given as the initializer of a variable of shape "
                f"{tuple(shape)}, expected equal shapes. Pass an array of shape {tuple(shape)}."
            )
        return value


class Identity(Initializer):
    """Fills a matrix with `gain` on its diagonal and 0 elsewhere.

    Args:
        gain: the value on the diagonal.
    """

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def __call__(self, shape: Shape, dtype: DTypeLike | None = None) -> jax.Array:
        if len(shape) != 2:
            raise ValueError(
                f"Identity was asked for a variable of shape {tuple(shape)}, expected a matrix with two "
                "axes. Use another initializer, such as 'zeros'."
            )
        return self.gain * jnp.eye(*shape, dtype=_floating(dtype))
