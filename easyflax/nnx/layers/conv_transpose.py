"""Transposed convolutions, which make the spatial axes larger, channels last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.core.variables import Param
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.conv_options import (
    Padding,
    canonical_padding,
    channels_last,
    check_convolution,
    check_kernel_mask,
    check_not_empty,
    each_axis,
    with_one_batch_axis,
)
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.linear import add_bias, default_bias_init, default_kernel_init

__all__ = ["ConvTranspose", "conv_transpose"]

_PADDINGS = ("SAME", "VALID", "CIRCULAR")


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    strides: Sequence[int],
    padding: Padding = "SAME",
    kernel_dilation: Sequence[int],
    transpose_kernel: bool = False,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """Returns the transposed convolution of `x` with `kernel`, plus `bias`.

    Args:
        x: `(batch, *spatial, in_features)`.
        kernel: `(*kernel_size, in_features, out_features)`, or with the last two swapped for
            `transpose_kernel`.
        bias: `(out_features,)`, or None.
        strides: how many outputs there are for each input, for each spatial axis.
        padding: see `ConvTranspose`.
        kernel_dilation: one less zeros are put between neighbours of the kernel.
        transpose_kernel: whether the kernel is that of the convolution to be transposed: its spatial axes
            are flipped, and its features swapped.
        precision: of the products, see `jax.lax.Precision`.
        preferred_element_type: the dtype that the products accumulate in and return.

    Returns:
        `(batch, *spatial_out, out_features)`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.conv_transpose import conv_transpose
        >>> x, kernel = jnp.array([[[1.0], [10.0]]]), jnp.array([[[3.0]], [[2.0]], [[1.0]]])
        >>> conv_transpose(x, kernel, strides=[2], padding="VALID", kernel_dilation=[1])[0, :, 0].tolist()
        [1.0, 2.0, 13.0, 20.0, 30.0]
    """
    rank = kernel.ndim - 2
    pads = canonical_padding(padding, rank, _PADDINGS, "conv_transpose")
    y = lax.conv_transpose(
        x,
        kernel,
        tuple(strides),
        "VALID" if pads == "CIRCULAR" else pads,
        rhs_dilation=tuple(kernel_dilation),
        dimension_numbers=channels_last(rank),
        transpose_kernel=transpose_kernel,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    if pads == "CIRCULAR":
        periods = [size * stride for size, stride in zip(x.shape[1:-1], strides, strict=True)]
        y = _wrap(y, periods, more_on_the_left=not transpose_kernel)
    return y if bias is None else add_bias(y, bias)


def _wrap(y: jax.Array, periods: Sequence[int], *, more_on_the_left: bool) -> jax.Array:
    """Adds up what lies a period apart along the spatial axes, as if the signal went around a circle.

    The middle of `y` stays in its place: there are as many whole periods on its left as on its right, an odd
    number in all, and what is missing to them is filled with zeros.
    """
    missing = [-(size - period) % (2 * period) for size, period in zip(y.shape[1:-1], periods, strict=True)]
    half = [(m // 2, m - m // 2) for m in missing]
    pads = [(high, low) for low, high in half] if more_on_the_left else half
    y = jnp.pad(y, [(0, 0), *pads, (0, 0)])
    for axis, period in enumerate(periods, start=1):
        times = y.shape[axis] // period
        y = y.reshape(*y.shape[:axis], times, period, *y.shape[axis + 1 :]).sum(axis)
    return y


class ConvTranspose(Module):
    """A transposed convolution over the axes before the last: each input adds a kernel's worth of outputs.

    The parameters are `kernel` of shape `(*kernel_size, in_features, out_features)`, with the last two
    swapped for `transpose_kernel`, and `bias` of shape `(out_features,)`.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        kernel_size: one integer for each spatial axis; a bare integer is a one-dimensional kernel.
        strides: how many outputs there are for each input: an integer for all spatial axes, or one for each.
        padding: `"SAME"` (the output is `strides` times as long as the input), `"VALID"` (all outputs that an
            input reaches), `"CIRCULAR"` (as long as `"SAME"`, with what sticks out added at the other end),
            or explicit: an integer for both sides of all axes, or for each axis an integer or a pair
            `(low, high)`. Explicit padding is that of the input with `strides - 1` zeros between neighbours:
            `dilation * (kernel_size - 1) - p` undoes the padding `p` of a `Conv`.
        kernel_dilation: an integer or one for each axis: spreads the kernel.
        use_bias: whether to add a bias.
        mask: multiplied with the kernel, and of its shape.
        dtype: the dtype to compute in; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        precision: of the products, see `jax.lax.Precision`.
        kernel_init: makes the kernel, `(key, shape, dtype) -> array`.
        bias_init: makes the bias.
        transpose_kernel: whether the kernel is that of the convolution to be transposed: its spatial axes
            are flipped, and its features swapped.
        promote_dtype: brings `(inputs, kernel, bias)` to one dtype.
        preferred_element_type: the dtype that the products accumulate in and return.
        rngs: its `params` stream gives the keys, the kernel's first.
        kernel_metadata: metadata for the variable `kernel`.
        bias_metadata: metadata for the variable `bias`.

    Raises:
        TypeError, ValueError: a size is no positive integer, the padding is not known, the mask has another
            shape than the kernel, or `rngs` is a bare seed or key.
        AttributeError: `rngs` has neither a stream `params` nor a default.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.ConvTranspose(8, 1, kernel_size=(3, 3), strides=2, rngs=nnx.Rngs(0))
        >>> layer.kernel.shape
        (3, 3, 8, 1)
        >>> layer(jnp.ones((5, 14, 14, 8))).shape
        (5, 28, 28, 1)

    Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic", chapter 4,
    https://arxiv.org/abs/1603.07285
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = None,
        *,
        padding: Padding = "SAME",
        kernel_dilation: int | Sequence[int] | None = None,
        use_bias: bool = True,
        mask: jax.Array | np.ndarray | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = default_bias_init,
        transpose_kernel: bool = False,
        promote_dtype: PromoteDtype = promote_dtype,
        preferred_element_type: DTypeLike | None = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.kernel_size = tuple(kernel_size) if isinstance(kernel_size, Iterable) else (kernel_size,)
        self.strides = strides
        self.padding = padding
        self.kernel_dilation = kernel_dilation
        self.use_bias = use_bias
        self.mask = mask
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.transpose_kernel = transpose_kernel
        self.promote_dtype = promote_dtype
        self.preferred_element_type = preferred_element_type
        check_convolution(self, "strides", "kernel_dilation")
        canonical_padding(padding, len(self.kernel_size), _PADDINGS, type(self).__name__)
        checks.check_rngs(self, rngs)
        features = (out_features, in_features) if transpose_kernel else (in_features, out_features)
        self.kernel_shape = (*self.kernel_size, *features)
        check_kernel_mask(self, self.kernel_shape)
        kernel = kernel_init(rngs.params(), self.kernel_shape, param_dtype)
        self.kernel = Param(kernel, **kernel_metadata)
        self.bias = (
            Param(bias_init(rngs.params(), (out_features,), param_dtype), **bias_metadata)
            if use_bias
            else None
        )

    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Returns the transposed convolution of `inputs`, of shape `(*batch, *spatial_out, out_features)`.

        Args:
            inputs: `(*batch, *spatial, in_features)` with any number of batch axes, also none.

        Raises:
            ValueError: there are too few axes, or the last is not `in_features` long.
        """
        kernel = self.kernel[...]
        rank = kernel.ndim - 2
        features = kernel.shape[-1 if self.transpose_kernel else -2]
        checks.check_features(self, inputs, features, argument="in_features", spatial_axes=rank)
        if self.padding == "CIRCULAR":
            check_not_empty(self, inputs, rank)
        if self.mask is not None:
            check_kernel_mask(self, kernel.shape)
            kernel = kernel * self.mask
        bias = None if self.bias is None else self.bias[...]
        batch = np.shape(inputs)[: -rank - 1]
        # Before the dtypes change: XLA rounds by the order of the two.
        flat = with_one_batch_axis(inputs, rank)
        x, kernel, bias = self.promote_dtype((flat, kernel, bias), dtype=self.dtype)
        y = conv_transpose(
            x,
            kernel,
            bias,
            strides=each_axis(self, "strides", rank),
            padding=self.padding,
            kernel_dilation=each_axis(self, "kernel_dilation", rank),
            transpose_kernel=self.transpose_kernel,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        return y if len(batch) == 1 else jnp.reshape(y, (*batch, *y.shape[1:]))
