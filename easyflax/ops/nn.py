"""Activations, losses, convolutions, pooling, normalization and attention as functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from easyflax import activations
from easyflax.dispatch import symbolic_aware
from easyflax.ops.table import as_array

_ACTIVATIONS = (
    *(
        "celu",
        "elu",
        "glu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_swish",
        "hard_tanh",
        "leaky_relu",
    ),
    *("log_sigmoid", "log_softmax", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus"),
    *(
        "softsign",
        "sparse_plus",
        "sparse_sigmoid",
        "sparsemax",
        "squareplus",
        "swish",
        "tanh_shrink",
        "threshold",
    ),
)
globals().update({name: getattr(activations, name) for name in _ACTIVATIONS})

NAMES = (
    *_ACTIVATIONS,
    *("average_pool", "batch_normalization", "binary_crossentropy", "categorical_crossentropy", "conv"),
    *("depth_to_space", "depthwise_conv", "dot_product_attention", "gelu", "layer_normalization", "max_pool"),
    *(
        "moments",
        "multi_hot",
        "normalize",
        "one_hot",
        "polar",
        "psnr",
        "relu",
        "rms_normalization",
        "separable_conv",
    ),
    *("space_to_depth", "sparse_categorical_crossentropy"),
)

# Keras's smallest number, by which nothing is divided by zero.
_EPSILON = 1e-7

Sizes = int | Sequence[int]


@symbolic_aware
def relu(x: ArrayLike) -> jax.Array:
    """Returns `x` where it is positive, else 0."""
    return jax.nn.relu(jnp.asarray(x))


@symbolic_aware
def gelu(x: ArrayLike, approximate: bool = True) -> jax.Array:
    """Returns `x` times the normal distribution function at `x`, by default in the form with `tanh`."""
    return jax.nn.gelu(jnp.asarray(x), approximate)


# -- classes and losses


@symbolic_aware
def one_hot(x: ArrayLike, num_classes: int, axis: int = -1, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns 1 at the class of each entry and 0 elsewhere, the classes along a new `axis`."""
    return jax.nn.one_hot(
        jnp.asarray(x), num_classes, dtype=jnp.float32 if dtype is None else dtype, axis=axis
    )


@symbolic_aware
def multi_hot(
    inputs: ArrayLike, num_classes: int | None = None, axis: int = -1, dtype: DTypeLike | None = None
) -> jax.Array:
    """Returns 1 at all classes of a row, `(batch, n)` to `(batch, num_classes)`.

    Raises:
        ValueError: `num_classes` is left out.
    """
    if num_classes is None:
        raise ValueError(
            "multi_hot was given no num_classes, expected the number of classes. Pass num_classes=."
        )
    ids = jnp.asarray(inputs)
    return jnp.max(one_hot(ids.astype("int32"), num_classes, axis, dtype), axis=min(ids.ndim - 1, 1))


def _log_probabilities(output: jax.Array, from_logits: bool, axis: int) -> jax.Array:
    if from_logits:
        return jax.nn.log_softmax(output, axis)
    shares = output / jnp.sum(output, axis, keepdims=True)
    return jnp.log(jnp.clip(shares, _EPSILON, 1 - _EPSILON))


@symbolic_aware
def binary_crossentropy(target: ArrayLike, output: ArrayLike, from_logits: bool = False) -> jax.Array:
    """Returns the cross-entropy of each entry, of `target`s from 0 to 1 and probabilities or logits."""
    target, output = jnp.asarray(target), jnp.asarray(output)
    _check_equal_shapes("binary_crossentropy", target, output)
    if from_logits:
        return -target * jax.nn.log_sigmoid(output) - (1 - target) * jax.nn.log_sigmoid(-output)
    output = jnp.clip(output, _EPSILON, 1 - _EPSILON)
    return -target * jnp.log(output) - (1 - target) * jnp.log(1 - output)


@symbolic_aware
def categorical_crossentropy(
    target: ArrayLike, output: ArrayLike, from_logits: bool = False, axis: int = -1
) -> jax.Array:
    """Returns the cross-entropy along `axis`, of one-hot `target`s and probabilities or logits."""
    target, output = jnp.asarray(target), jnp.asarray(output)
    _check_equal_shapes("categorical_crossentropy", target, output)
    return -jnp.sum(target * _log_probabilities(output, from_logits, axis), axis)


@symbolic_aware
def sparse_categorical_crossentropy(
    target: ArrayLike, output: ArrayLike, from_logits: bool = False, axis: int = -1
) -> jax.Array:
    """Returns the cross-entropy along `axis`, of integer `target`s and probabilities or logits."""
    target, output = jnp.asarray(target).astype("int32"), jnp.asarray(output)
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = target[..., 0]
    one_hot_target = jax.nn.one_hot(target, output.shape[axis], axis=axis)
    _check_equal_shapes("sparse_categorical_crossentropy", one_hot_target, output)
    return -jnp.sum(one_hot_target * _log_probabilities(output, from_logits, axis), axis)


def _check_equal_shapes(name: str, target: jax.Array, output: jax.Array) -> None:
    if target.shape != output.shape:
        raise ValueError(
            f"{name} was given targets of shape {target.shape} (one-hot) and outputs of shape "
            f"{output.shape}, expected equal shapes. Reshape one of them."
        )


@symbolic_aware
def psnr(x1: ArrayLike, x2: ArrayLike, max_val: float) -> jax.Array:
    """Returns the ratio of the largest possible value to the mean squared difference, in decibel."""
    error = jnp.mean(jnp.square(jnp.asarray(x1) - jnp.asarray(x2)))
    return 20 * jnp.log10(jnp.asarray(max_val, error.dtype)) - 10 * jnp.log10(error)


# -- convolutions and pooling


def _is_channels_first(data_format: str | None) -> bool:
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(
            f"data_format was given as {data_format!r}, expected 'channels_last' or 'channels_first'. Pass "
            "one of these."
        )
    return data_format == "channels_first"


def _each_axis(sizes: Sizes, axes: int) -> tuple[int, ...]:
    return (sizes,) * axes if isinstance(sizes, int) else tuple(sizes)


def _convolve(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sizes,
    padding: str,
    first: bool,
    dilation_rate: Sizes,
    groups: int,
) -> jax.Array:
    axes = inputs.ndim - 2
    spatial = "DHW"[-axes:]
    layout = f"NC{spatial}" if first else f"N{spatial}C"
    return jax.lax.conv_general_dilated(
        inputs.astype(kernel.dtype),
        kernel,
        _each_axis(strides, axes),
        padding.upper(),
        rhs_dilation=_each_axis(dilation_rate, axes),
        dimension_numbers=(layout, f"{spatial}IO", layout),
        feature_group_count=groups,
    )


@symbolic_aware
def conv(
    inputs: ArrayLike,
    kernel: ArrayLike,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> jax.Array:
    """Returns the convolution of `(batch, *spatial, channels)` with a kernel `(*window, channels, filters)`.

    With fewer channels in the kernel than in the input, these are split into groups.

    Raises:
        ValueError: the channels cannot be split into such groups.
    """
    inputs, kernel, first = jnp.asarray(inputs), jnp.asarray(kernel), _is_channels_first(data_format)
    channels = inputs.shape[1 if first else -1]
    if channels % kernel.shape[-2]:
        raise ValueError(
            f"conv was given inputs with {channels} channels and a kernel for {kernel.shape[-2]}, expected a "
            f"multiple. Pass a kernel of shape (..., {channels}, filters)."
        )
    return _convolve(inputs, kernel, strides, padding, first, dilation_rate, channels // kernel.shape[-2])


@symbolic_aware
def depthwise_conv(
    inputs: ArrayLike,
    kernel: ArrayLike,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> jax.Array:
    """Returns the convolution of each channel by itself, with a kernel `(*window, channels, multiplier)`."""
    inputs, kernel, first = jnp.asarray(inputs), jnp.asarray(kernel), _is_channels_first(data_format)
    *window, channels, multiplier = kernel.shape
    by_channel = kernel.reshape(*window, 1, channels * multiplier)
    return _convolve(inputs, by_channel, strides, padding, first, dilation_rate, channels)


@symbolic_aware
def separable_conv(
    inputs: ArrayLike,
    depthwise_kernel: ArrayLike,
    pointwise_kernel: ArrayLike,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> jax.Array:
    """Returns a depthwise convolution followed by one with a window of size one."""
    by_channel = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(by_channel, pointwise_kernel, data_format=data_format)


def _pool(
    inputs: jax.Array,
    start: float,
    reduce: Any,
    pool_size: Sizes,
    strides: Sizes | None,
    padding: str,
    first: bool,
) -> jax.Array:
    axes = inputs.ndim - 2
    around = (lambda sizes: (1, 1, *sizes)) if first else (lambda sizes: (1, *sizes, 1))
    window = _each_axis(pool_size, axes)
    steps = window if strides is None else _each_axis(strides, axes)
    return jax.lax.reduce_window(inputs, start, reduce, around(window), around(steps), padding.upper())


@symbolic_aware
def max_pool(
    inputs: ArrayLike,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> jax.Array:
    """Returns the largest entry of each window of `(batch, *spatial, channels)`."""
    first = _is_channels_first(data_format)
    return _pool(jnp.asarray(inputs), -jnp.inf, jax.lax.max, pool_size, strides, padding, first)


@symbolic_aware
def average_pool(
    inputs: ArrayLike,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> jax.Array:
    """Returns the mean of each window of `(batch, *spatial, channels)`, without what pads it."""
    inputs, first = jnp.asarray(inputs), _is_channels_first(data_format)
    sums, counts = (
        _pool(x, 0.0, jax.lax.add, pool_size, strides, padding, first)
        for x in (inputs, jnp.ones_like(inputs))
    )
    return sums / counts


@symbolic_aware
def depth_to_space(x: ArrayLike, block_size: int, data_format: str | None = "channels_last") -> jax.Array:
    """Returns an image in which groups of channels have become blocks of pixels."""
    x, first = jnp.asarray(x), _is_channels_first(data_format)
    x = jnp.moveaxis(x, 1, -1) if first else x
    n, h, w, c = x.shape
    blocks = x.reshape(n, h, w, *_block_axes(block_size, c // block_size**2, first))
    blocks = jnp.moveaxis(blocks, 3, 5) if first else blocks
    image = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * block_size, w * block_size, -1)
    return jnp.moveaxis(image, -1, 1) if first else image


def _block_axes(block_size: int, channels: int, first: bool) -> tuple[int, int, int]:
    """The axes that channels stand for: with channels first the pixels of a block lie next to each other."""
    return (channels, block_size, block_size) if first else (block_size, block_size, channels)


@symbolic_aware
def space_to_depth(x: ArrayLike, block_size: int, data_format: str | None = "channels_last") -> jax.Array:
    """Returns an image in which blocks of pixels have become groups of channels."""
    x, first = jnp.asarray(x), _is_channels_first(data_format)
    x = jnp.moveaxis(x, 1, -1) if first else x
    n, h, w, c = x.shape
    blocks = x.reshape(n, h // block_size, block_size, w // block_size, block_size, c).swapaxes(2, 3)
    blocks = jnp.moveaxis(blocks, 5, 3) if first else blocks
    image = blocks.reshape(n, h // block_size, w // block_size, -1)
    return jnp.moveaxis(image, -1, 1) if first else image


# -- normalization and attention


@symbolic_aware
def moments(x: ArrayLike, axes: Sizes, keepdims: bool = False) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance along `axes`, computed in float32 at least."""
    x = jnp.asarray(x)
    axes = axes if isinstance(axes, int) else tuple(axes)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, variance = jnp.mean(wide, axes, keepdims=keepdims), jnp.var(wide, axes, keepdims=keepdims)
    return mean.astype(x.dtype), variance.astype(x.dtype)


@symbolic_aware
def batch_normalization(
    x: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    axis: int,
    offset: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    epsilon: float = 0.001,
) -> jax.Array:
    """Returns `(x - mean) / sqrt(variance + epsilon) * scale + offset`, these vectors lying along `axis`."""
    x = jnp.asarray(x)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    factor = jax.lax.rsqrt(jnp.reshape(as_array(variance), shape) + epsilon)
    factor = factor if scale is None else factor * jnp.reshape(as_array(scale), shape)
    shift = -jnp.reshape(as_array(mean), shape) * factor
    return x * factor + (shift if offset is None else shift + jnp.reshape(as_array(offset), shape))


def _along(x: jax.Array, vector: ArrayLike, axis: Sizes) -> jax.Array:
    """A vector, or an array of the sizes of several axes, in the shape in which it broadcasts to `x`."""
    axes = {one % x.ndim for one in ([axis] if isinstance(axis, int) else axis)}
    vector = jnp.asarray(vector, x.dtype)
    if vector.ndim == x.ndim:
        return vector
    return vector.reshape([size if one in axes else 1 for one, size in enumerate(x.shape)])


@symbolic_aware
def layer_normalization(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    axis: Sizes = -1,
    epsilon: float | None = None,
) -> jax.Array:
    """Returns `x` less its mean, by its standard deviation along `axis`, times `gamma` plus `beta`.

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450
    """
    x = jnp.asarray(x)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, variance = moments(wide, axis, keepdims=True)
    factor = jax.lax.rsqrt(variance + (_EPSILON if epsilon is None else epsilon))
    factor = factor if gamma is None else factor * _along(wide, gamma, axis)
    shift = -mean * factor
    return (wide * factor + (shift if beta is None else shift + _along(wide, beta, axis))).astype(x.dtype)


@symbolic_aware
def rms_normalization(
    x: ArrayLike, scale: ArrayLike | None = None, axis: Sizes = -1, epsilon: float | None = None
) -> jax.Array:
    """Returns `x` by the root of its mean square along `axis`, times `scale`.

    Source: Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467
    """
    x = jnp.asarray(x)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = axis if isinstance(axis, int) else tuple(axis)
    square = jnp.mean(jnp.square(wide), axes, keepdims=True)
    out = wide * jax.lax.rsqrt(square + (_EPSILON if epsilon is None else epsilon))
    return (out if scale is None else out * _along(wide, scale, axis)).astype(x.dtype)


@symbolic_aware
def normalize(x: ArrayLike, axis: Sizes = -1, order: int = 2, epsilon: float | None = None) -> jax.Array:
    """Returns `x` by its norm along `axis`; norms below `epsilon` count as that."""
    x = jnp.atleast_1d(as_array(x))
    axes = axis if isinstance(axis, int) else tuple(axis)
    epsilon = _EPSILON if epsilon is None else epsilon
    if order == 2:
        return x * jnp.minimum(jax.lax.rsqrt(jnp.sum(jnp.square(x), axes, keepdims=True)), 1 / epsilon)
    return x / jnp.maximum(jnp.linalg.norm(x, order, axes, keepdims=True), epsilon)


@symbolic_aware
def polar(abs_: ArrayLike, angle: ArrayLike) -> jax.Array:
    """Returns complex numbers of these sizes and angles."""
    size, angle = jnp.asarray(abs_), jnp.asarray(angle)
    return jax.lax.complex(size * jnp.cos(angle), size * jnp.sin(angle))


@symbolic_aware
def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    scale: float | None = None,
    is_causal: bool = False,
) -> jax.Array:
    """Returns values weighed by how well queries and keys agree, `(batch, length, heads, size)` all three.

    Args:
        query: what is looked for.
        key: what it is compared with.
        value: what is returned.
        bias: added to the logits, broadcast to `(batch, heads, queries, keys)`.
        mask: False where a query may not look, of that shape.
        scale: of the logits; one by the root of the size of a head by default.
        is_causal: no query looks at what comes later.

    Source: Vaswani et al. 2017, equation 1, https://arxiv.org/abs/1706.03762
    """
    query, key, value = jnp.asarray(query), jnp.asarray(key), jnp.asarray(value)
    bias, mask = (None if one is None else jnp.asarray(one) for one in (bias, mask))
    return jax.nn.dot_product_attention(query, key, value, bias, mask, scale=scale, is_causal=is_causal)
