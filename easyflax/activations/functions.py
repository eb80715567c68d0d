"""Activation functions under Keras's names, with Keras's arguments and defaults."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware

__all__ = [
    "celu",
    "elu",
    "exponential",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]

Axis = int | Sequence[int]


@symbolic_aware
def linear(x: ArrayLike) -> ArrayLike:
    """Returns `x` itself."""
    return x


@symbolic_aware
def relu(
    x: ArrayLike, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> jax.Array:
    """Returns `x` where it is above `threshold`, else `negative_slope * (x - threshold)`.

    Args:
        x: any shape.
        negative_slope: the slope below the threshold.
        max_value: the largest value that is returned.
        threshold: where the function bends; with no slope, what is not above becomes 0.

    Examples:
        >>> relu([-2.0, 1.0, 9.0], negative_slope=0.5, max_value=6.0).tolist()
        [-1.0, 1.0, 6.0]
    """
    x = jnp.asarray(x)
    above = jax.nn.relu(x) if threshold == 0 else jnp.where(x > jnp.asarray(threshold, x.dtype), x, 0)
    if max_value is not None:
        above = jnp.clip(above, 0, jnp.asarray(max_value, x.dtype))
    if negative_slope == 0:
        return above
    return above - negative_slope * jax.nn.relu(threshold - x)


@symbolic_aware
def leaky_relu(x: ArrayLike, negative_slope: float = 0.2) -> jax.Array:
    """Returns `x` where it is positive, else `negative_slope * x`."""
    return jax.nn.leaky_relu(jnp.asarray(x), negative_slope)


@symbolic_aware
def relu6(x: ArrayLike) -> jax.Array:
    """Returns `x` clipped to `[0, 6]`."""
    return jax.nn.relu6(jnp.asarray(x))


@symbolic_aware
def elu(x: ArrayLike, alpha: float = 1.0) -> jax.Array:
    """Returns `x` where it is positive, else `alpha * (exp(x) - 1)`.

    Source: Clevert et al. 2015, https://arxiv.org/abs/1511.07289
    """
    return jax.nn.elu(jnp.asarray(x), alpha)


@symbolic_aware
def celu(x: ArrayLike, alpha: float = 1.0) -> jax.Array:
    """Returns `x` where it is positive, else `alpha * (exp(x / alpha) - 1)`.

    Source: Barron 2017, https://arxiv.org/abs/1704.07483
    """
    return jax.nn.celu(jnp.asarray(x), alpha)


@symbolic_aware
def selu(x: ArrayLike) -> jax.Array:
    """Returns `elu` with the scale and alpha under which activations keep mean zero and variance one.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515
    """
    return jax.nn.selu(jnp.asarray(x))


@symbolic_aware
def gelu(x: ArrayLike, approximate: bool = False) -> jax.Array:
    """Returns `x` times the normal distribution function at `x`.

    Args:
        x: any shape.
        approximate: use the form with `tanh`.

    Source: Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415
    """
    return jax.nn.gelu(jnp.asarray(x), approximate)


@symbolic_aware
def silu(x: ArrayLike) -> jax.Array:
    """Returns `x * sigmoid(x)`, also called swish.

    Source: Ramachandran et al. 2017, https://arxiv.org/abs/1710.05941
    """
    return jax.nn.silu(jnp.asarray(x))


swish = silu


@symbolic_aware
def hard_silu(x: ArrayLike) -> jax.Array:
    """Returns `x * hard_sigmoid(x)`, also called hard swish.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244
    """
    return jax.nn.hard_silu(jnp.asarray(x))


hard_swish = hard_silu


@symbolic_aware
def mish(x: ArrayLike) -> jax.Array:
    """Returns `x * tanh(softplus(x))`.

    Source: Misra 2019, https://arxiv.org/abs/1908.08681
    """
    return jax.nn.mish(jnp.asarray(x))


@symbolic_aware
def glu(x: ArrayLike, axis: int = -1) -> jax.Array:
    """Returns the first half of `x` along `axis` times the sigmoid of the second half.

    Source: Dauphin et al. 2016, https://arxiv.org/abs/1612.08083
    """
    return jax.nn.glu(jnp.asarray(x), axis)


@symbolic_aware
def sigmoid(x: ArrayLike) -> jax.Array:
    """Returns `1 / (1 + exp(-x))`."""
    return jax.nn.sigmoid(jnp.asarray(x))


@symbolic_aware
def hard_sigmoid(x: ArrayLike) -> jax.Array:
    """Returns `x / 6 + 1 / 2` clipped to `[0, 1]`."""
    return jax.nn.hard_sigmoid(jnp.asarray(x))


@symbolic_aware
def log_sigmoid(x: ArrayLike) -> jax.Array:
    """Returns `log(sigmoid(x))`."""
    return jax.nn.log_sigmoid(jnp.asarray(x))


@symbolic_aware
def sparse_sigmoid(x: ArrayLike) -> jax.Array:
    """Returns `(x + 1) / 2` clipped to `[0, 1]`."""
    return jax.nn.sparse_sigmoid(jnp.asarray(x))


@symbolic_aware
def softmax(x: ArrayLike, axis: Axis = -1) -> jax.Array:
    """Returns `exp(x) / sum(exp(x))` along `axis`, or over several axes."""
    return jax.nn.softmax(jnp.asarray(x), axis if isinstance(axis, int) else tuple(axis))


@symbolic_aware
def log_softmax(x: ArrayLike, axis: Axis = -1) -> jax.Array:
    """Returns `log(softmax(x))`, computed without overflow."""
    return jax.nn.log_softmax(jnp.asarray(x), axis if isinstance(axis, int) else tuple(axis))


@symbolic_aware
def sparsemax(x: ArrayLike, axis: int = -1) -> jax.Array:
    """Returns the point of the probability simplex nearest to `x` along `axis`; unlike softmax, with zeros.

    Source: Martins & Astudillo 2016, algorithm 1, https://arxiv.org/abs/1602.02068
    """
    z = jnp.moveaxis(jnp.asarray(x), axis, -1)
    descending = -jnp.sort(-z, axis=-1)
    sums = jnp.cumsum(descending, axis=-1)
    ranks = jnp.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    inside = 1 + ranks * descending > sums
    count = jnp.sum(inside, axis=-1, keepdims=True)
    tau = (jnp.sum(jnp.where(inside, descending, 0), axis=-1, keepdims=True) - 1) / count
    return jnp.moveaxis(jnp.maximum(z - tau, 0), -1, axis)


@symbolic_aware
def softplus(x: ArrayLike) -> jax.Array:
    """Returns `log(1 + exp(x))`."""
    return jax.nn.softplus(jnp.asarray(x))


@symbolic_aware
def sparse_plus(x: ArrayLike) -> jax.Array:
    """Returns 0 up to -1, `(x + 1) ** 2 / 4` up to 1, and `x` from there."""
    return jax.nn.sparse_plus(jnp.asarray(x))


@symbolic_aware
def squareplus(x: ArrayLike, b: float = 4) -> jax.Array:
    """Returns `(x + sqrt(x ** 2 + b)) / 2`.

    Source: Barron 2021, https://arxiv.org/abs/2112.11687
    """
    return jax.nn.squareplus(jnp.asarray(x), b)


@symbolic_aware
def softsign(x: ArrayLike) -> jax.Array:
    """Returns `x / (1 + |x|)`."""
    return jax.nn.soft_sign(jnp.asarray(x))


@symbolic_aware
def soft_shrink(x: ArrayLike, threshold: float = 0.5) -> jax.Array:
    """Returns `x` moved towards 0 by `threshold`, and 0 where it would pass it."""
    x = jnp.asarray(x)
    return jnp.where(x > threshold, x - threshold, jnp.where(x < -threshold, x + threshold, 0.0))


@symbolic_aware
def hard_shrink(x: ArrayLike, threshold: float = 0.5) -> jax.Array:
    """Returns `x` where its size is above `threshold`, else 0."""
    x = jnp.asarray(x)
    return jnp.where(jnp.abs(x) > threshold, x, 0.0)


@symbolic_aware
def threshold(x: ArrayLike, threshold: float, default_value: float) -> jax.Array:
    """Returns `x` where it is above `threshold`, else `default_value`."""
    x = jnp.asarray(x)
    return jnp.where(x > threshold, x, default_value)


@symbolic_aware
def tanh(x: ArrayLike) -> jax.Array:
    """Returns the hyperbolic tangent of `x`."""
    return jnp.tanh(jnp.asarray(x))


@symbolic_aware
def tanh_shrink(x: ArrayLike) -> jax.Array:
    """Returns `x - tanh(x)`."""
    x = jnp.asarray(x)
    return x - jnp.tanh(x)


@symbolic_aware
def hard_tanh(x: ArrayLike) -> jax.Array:
    """Returns `x` clipped to `[-1, 1]`."""
    return jax.nn.hard_tanh(jnp.asarray(x))


@symbolic_aware
def exponential(x: ArrayLike) -> jax.Array:
    """Returns `exp(x)`."""
    return jnp.exp(jnp.asarray(x))
