"""Pooling: reducing windows that slide over the axes between batch and features.

>>> import jax.numpy as jnp
>>> from easyflax.nnx.layers import pooling
>>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
>>> pooling.max_pool(x, (2, 2), strides=(2, 2))[0, :, :, 0].tolist()
[[5.0, 7.0], [13.0, 15.0]]
>>> pooling.avg_pool(x, (2, 2), strides=(2, 2))[0, :, :, 0].tolist()
[[2.5, 4.5], [10.5, 12.5]]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["avg_pool", "max_pool", "min_pool", "pool"]

Padding = str | Sequence[tuple[int, int]]

_PADDINGS = ("SAME", "SAME_LOWER", "VALID")


def pool(
    inputs: jax.Array,
    init: Any,
    reduce_fn: Callable[[Any, Any], Any],
    window_shape: Sequence[int],
    strides: Sequence[int] | None,
    padding: Padding,
) -> jax.Array:
    """Returns the reduction of each window by `reduce_fn`, starting from `init`.

    Args:
        inputs: `(*batch, *spatial, features)`, any number of batch axes.
        init: a scalar that `reduce_fn` leaves others alone with; also what padding is filled with.
        reduce_fn: an associative function of two scalars, such as `jax.lax.add`.
        window_shape: the window's size along each spatial axis; its length says how many there are.
        strides: how far the window moves along each spatial axis; None is 1 for all.
        padding: `"SAME"`, `"SAME_LOWER"`, `"VALID"`, or a pair `(low, high)` for each spatial axis.

    Returns:
        `(*batch, *spatial_out, features)`.

    Raises:
        ValueError: too few axes, strides or padding of another length than the window, or an unknown padding.
    """
    inputs = jnp.asarray(inputs)
    window = tuple(window_shape)
    strides = (1,) * len(window) if strides is None else tuple(strides)
    _check(inputs.shape, window, strides, padding)
    batch = inputs.ndim - len(window) - 1
    if not isinstance(padding, str):
        padding = ((0, 0),) * batch + tuple((low, high) for low, high in padding) + ((0, 0),)
    ones = (1,) * batch
    return lax.reduce_window(inputs, init, reduce_fn, (*ones, *window, 1), (*ones, *strides, 1), padding)


def _check(
    shape: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...], padding: Padding
) -> None:
    if len(shape) < len(window) + 1:
        raise ValueError(
            f"Pooling: got an input of shape {shape} and window_shape={window}, expected at least "
            f"{len(window) + 1} axes: one for each entry of the window, and features. Add the missing axes, "
            "for example with x[..., None]."
        )
    if len(strides) != len(window):
        raise ValueError(
            f"Pooling: got strides={strides} and window_shape={window}, expected one stride for each entry "
            "of the window. Pass as many, or strides=None for 1."
        )
    if isinstance(padding, str):
        known = padding.upper() in _PADDINGS
    else:
        known = len(padding) == len(window) and all(np.shape(pair) == (2,) for pair in padding)
    if not known:
        raise ValueError(
            f"Pooling: got padding={padding!r} and window_shape={window}, expected 'SAME', 'SAME_LOWER', "
            "'VALID', or a pair (low, high) for each entry of the window. Pass one of these."
        )


def avg_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> jax.Array:
    """Returns the mean of each window.

    Args:
        inputs: `(*batch, *spatial, features)`.
        window_shape: the window's size along each spatial axis.
        strides: how far the window moves; None is 1 for all axes.
        padding: `"SAME"`, `"SAME_LOWER"`, `"VALID"`, or a pair `(low, high)` for each spatial axis.
        count_include_pad: whether padding counts as zeros; if not, the mean is over the entries inside.

    Raises:
        ValueError: see `pool`.
    """
    inputs = jnp.asarray(inputs)
    total = pool(inputs, 0.0, lax.add, window_shape, strides, padding)
    if count_include_pad:
        return total / math.prod(window_shape)
    spatial = inputs.shape[-len(tuple(window_shape)) - 1 : -1]
    ones = jnp.ones((*(1,) * (inputs.ndim - len(spatial) - 1), *spatial, 1))
    return total / pool(ones, 0.0, lax.add, window_shape, strides, padding)


def max_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Returns the maximum of each window; arguments as in `avg_pool`. Padding never wins."""
    return pool(inputs, -jnp.inf, lax.max, window_shape, strides, padding)


def min_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Returns the minimum of each window; arguments as in `avg_pool`. Padding never wins."""
    return pool(inputs, jnp.inf, lax.min, window_shape, strides, padding)
