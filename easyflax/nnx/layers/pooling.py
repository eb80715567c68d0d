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
    """Returns the reduction of each window that slides over the axes between batch and features.

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
        TypeError: the window or the strides are no sequences of integers.
        ValueError: too few axes, sizes below 1, strides or padding of another length than the window, or an
            unknown padding.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from easyflax import nnx
        >>> x = jnp.array([[1.0], [2.0], [3.0], [4.0]])  # (4, 1): one spatial axis and one feature
        >>> nnx.pool(x, 1.0, jax.lax.mul, (2,), (2,), "VALID")[:, 0].tolist()
        [2.0, 12.0]
    """
    inputs = jnp.asarray(inputs)
    window = _sizes("window_shape", window_shape)
    strides = (1,) * len(window) if strides is None else _sizes("strides", strides)
    _check(inputs.shape, window, strides, padding)
    batch = inputs.ndim - len(window) - 1
    if not isinstance(padding, str):
        padding = ((0, 0),) * batch + tuple((low, high) for low, high in padding) + ((0, 0),)
    ones = (1,) * batch
    return lax.reduce_window(inputs, init, reduce_fn, (*ones, *window, 1), (*ones, *strides, 1), padding)


def _sizes(name: str, sizes: Any) -> tuple[int, ...]:
    values = tuple(sizes) if isinstance(sizes, Sequence) else sizes
    if not isinstance(values, tuple) or not all(isinstance(size, (int, np.integer)) for size in values):
        raise TypeError(
            f"Pooling: got {name}={sizes!r}, expected a sequence with one integer for each spatial axis. "
            f"Pass for example {name}=(2, 2)."
        )
    if any(size < 1 for size in values):
        raise ValueError(
            f"Pooling: got {name}={values}, expected integers of at least 1. Pass for example {name}=(2, 2)."
        )
    return values


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
        pairs = list(padding) if isinstance(padding, (Sequence, np.ndarray)) else []
        known = len(pairs) == len(window) and all(np.shape(pair) == (2,) for pair in pairs)
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
        inputs: `(*batch, *spatial, features)`, any number of batch axes; integers give float32 means.
        window_shape: the window's size along each spatial axis.
        strides: how far the window moves; None is 1 for all axes.
        padding: `"SAME"`, `"SAME_LOWER"`, `"VALID"`, or a pair `(low, high)` for each spatial axis.
        count_include_pad: whether padding counts as zeros; if not, the mean is over the entries inside.

    Returns:
        `(*batch, *spatial_out, features)`.

    Raises:
        TypeError: `inputs` are booleans, or see `pool`.
        ValueError: see `pool`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> x = jnp.array([[1.0], [2.0], [3.0]])
        >>> nnx.avg_pool(x, (2,), padding="SAME")[:, 0].tolist()
        [1.5, 2.5, 1.5]
        >>> nnx.avg_pool(x, (2,), padding="SAME", count_include_pad=False)[:, 0].tolist()
        [1.5, 2.5, 3.0]

    Source: LeCun et al. 1998, section II.A, https://doi.org/10.1109/5.726791
    """
    inputs = jnp.asarray(inputs)
    if inputs.dtype == bool:
        raise TypeError(
            "Pooling: got inputs of dtype bool, expected numbers, of which there is a mean. Convert them "
            "first, for example with inputs.astype(float)."
        )
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
    """Returns the maximum of each window. Padding never wins.

    Args:
        inputs: `(*batch, *spatial, features)`, any number of batch axes, of any dtype.
        window_shape: the window's size along each spatial axis.
        strides: how far the window moves; None is 1 for all axes.
        padding: `"SAME"`, `"SAME_LOWER"`, `"VALID"`, or a pair `(low, high)` for each spatial axis.

    Returns:
        `(*batch, *spatial_out, features)`, the dtype of `inputs`.

    Raises:
        TypeError, ValueError: see `pool`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> nnx.max_pool(jnp.array([[1], [-2], [3], [4]]), (2,), strides=(2,))[:, 0].tolist()
        [1, 4]

    Source: Riesenhuber and Poggio 1999, https://doi.org/10.1038/14819
    """
    return pool(inputs, -jnp.inf, lax.max, window_shape, strides, padding)


def min_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Returns the minimum of each window. Padding never wins.

    Args:
        inputs: see `max_pool`, as for the others.
        window_shape: the window's size along each spatial axis.
        strides: how far the window moves; None is 1 for all axes.
        padding: `"SAME"`, `"SAME_LOWER"`, `"VALID"`, or a pair `(low, high)` for each spatial axis.

    Returns:
        `(*batch, *spatial_out, features)`, the dtype of `inputs`.

    Raises:
        TypeError, ValueError: see `pool`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> nnx.min_pool(jnp.array([[1], [-2], [3], [4]]), (2,), strides=(2,))[:, 0].tolist()
        [-2, 3]
    """
    return pool(inputs, jnp.inf, lax.min, window_shape, strides, padding)
