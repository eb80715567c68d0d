"""Convolutions of each channel by itself, and separable ones, which then mix the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from easyflax import constraints, initializers, regularizers
from easyflax.layers.convolution import ConvolutionLayer
from easyflax.nnx.layers.conv import conv

__all__ = [
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
]


class _Depthwise(ConvolutionLayer):
    """Base class of both kinds."""

    depth_multiplier: int

    def _convolve_depthwise(self, inputs: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        """Returns `depth_multiplier` channels for each of the input, side by side.

        Args:
            inputs: `(batch, *spatial, channels)`.
            kernel: `(*kernel_size, channels, depth_multiplier)`.
            bias: `(channels * depth_multiplier,)`, or None.
        """
        channels = self.in_features
        return conv(
            inputs.astype(kernel.dtype),
            kernel.reshape(*self.kernel_size, 1, channels * self.depth_multiplier),
            bias,
            strides=self.strides,
            padding=self.padding,
            input_dilation=(1,) * self.rank,
            kernel_dilation=self.dilation_rate,
            feature_group_count=channels,
        )


class _DepthwiseConv(_Depthwise):
    """Base class; see `DepthwiseConv2D`."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._set_count(depth_multiplier=depth_multiplier)
        self._set_options(
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            bias_constraint=bias_constraint,
            strides_and_dilation=True,
        )
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)

    def make_weights(self, channels: int) -> None:
        self.kernel = self.add_weight(
            shape=(*self.kernel_size, channels, self.depth_multiplier),
            initializer=self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
            name="kernel",
        )
        self._make_bias(channels * self.depth_multiplier)

    def convolve(self, inputs: jax.Array) -> jax.Array:
        return self._convolve_depthwise(inputs, self._in_compute(self.kernel), self._in_compute(self.bias))


class _SeparableConv(_Depthwise):
    """Base class; see `SeparableConv2D`."""

    filters: int

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._set_count(filters=filters, depth_multiplier=depth_multiplier)
        self._set_options(
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            bias_constraint=bias_constraint,
            strides_and_dilation=True,
        )
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.pointwise_initializer = initializers.get(pointwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.pointwise_regularizer = regularizers.get(pointwise_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)
        self.pointwise_constraint = constraints.get(pointwise_constraint)

    def make_weights(self, channels: int) -> None:
        self.depthwise_kernel = self.add_weight(
            shape=(*self.kernel_size, channels, self.depth_multiplier),
            initializer=self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
            name="depthwise_kernel",
        )
        self.pointwise_kernel = self.add_weight(
            shape=(*(1,) * self.rank, channels * self.depth_multiplier, self.filters),
            initializer=self.pointwise_initializer,
            regularizer=self.pointwise_regularizer,
            constraint=self.pointwise_constraint,
            name="pointwise_kernel",
        )
        self._make_bias(self.filters)

    def convolve(self, inputs: jax.Array) -> jax.Array:
        ones = (1,) * self.rank
        return conv(
            self._convolve_depthwise(inputs, self._in_compute(self.depthwise_kernel), None),
            self._in_compute(self.pointwise_kernel),
            self._in_compute(self.bias),
            strides=ones,
            padding="VALID",
            input_dilation=ones,
            kernel_dilation=ones,
        )


class DepthwiseConv1D(_DepthwiseConv):
    """A convolution over sequences of each channel by itself, and an activation.

    Inputs are `(batch, steps, channels)`. The arguments are those of `DepthwiseConv2D`.

    Examples:
        >>> import jax.numpy as jnp
        >>> DepthwiseConv1D(3, depth_multiplier=2)(jnp.ones((2, 10, 3))).shape
        (2, 8, 6)
    """

    rank = 1


class DepthwiseConv2D(_DepthwiseConv):
    """A convolution over images of each channel by itself, and an activation.

    The weights are `kernel`, `(*kernel_size, channels, depth_multiplier)`, and `bias`,
    `(channels * depth_multiplier,)`.

    Args:
        kernel_size: an integer for all spatial axes, or one for each.
        strides: likewise, how far the kernel moves.
        padding: `"valid"`, none, or `"same"`: zeros on both sides, for outputs of the input's size divided by
            the strides.
        depth_multiplier: number of channels of the output for each channel of the input.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        dilation_rate: an integer for all spatial axes, or one for each: spreads the kernel.
        activation: a name or a function, see `easyflax.activations`; by default none.
        use_bias: whether to add a bias.
        depthwise_initializer: of the kernel, see `easyflax.initializers`.
        bias_initializer: likewise.
        depthwise_regularizer: see `easyflax.regularizers`.
        bias_regularizer: likewise.
        activity_regularizer: of the output, likewise.
        depthwise_constraint: see `easyflax.constraints`.
        bias_constraint: likewise.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError, ValueError: a size is no positive integer, or the padding is unknown.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = DepthwiseConv2D(3, padding="same", depth_multiplier=2)
        >>> layer(jnp.ones((2, 8, 8, 4))).shape, layer.kernel.shape
        ((2, 8, 8, 8), (3, 3, 4, 2))
    """

    rank = 2


class SeparableConv1D(_SeparableConv):
    """A convolution over sequences of each channel by itself, a mixing of the channels, and an activation.

    Inputs are `(batch, steps, channels)`. The arguments are those of `SeparableConv2D`.

    Examples:
        >>> import jax.numpy as jnp
        >>> SeparableConv1D(4, 3)(jnp.ones((2, 10, 3))).shape
        (2, 8, 4)
    """

    rank = 1


class SeparableConv2D(_SeparableConv):
    """A convolution over images of each channel by itself, a mixing of the channels, and an activation.

    The weights are `depthwise_kernel`, `(*kernel_size, channels, depth_multiplier)`, `pointwise_kernel`,
    `(1, 1, channels * depth_multiplier, filters)`, and `bias`, `(filters,)`.

    Args:
        filters: number of channels of the output.
        kernel_size: an integer for all spatial axes, or one for each.
        strides: likewise, how far the kernel moves.
        padding: `"valid"`, none, or `"same"`: zeros on both sides, for outputs of the input's size divided by
            the strides.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        dilation_rate: an integer for all spatial axes, or one for each: spreads the kernel.
        depth_multiplier: number of channels between the two steps for each channel of the input.
        activation: a name or a function, see `easyflax.activations`; by default none.
        use_bias: whether to add a bias.
        depthwise_initializer: of the first kernel, see `easyflax.initializers`.
        pointwise_initializer: of the second kernel, likewise.
        bias_initializer: likewise.
        depthwise_regularizer: see `easyflax.regularizers`.
        pointwise_regularizer: likewise.
        bias_regularizer: likewise.
        activity_regularizer: of the output, likewise.
        depthwise_constraint: see `easyflax.constraints`.
        pointwise_constraint: likewise.
        bias_constraint: likewise.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError, ValueError: a size is no positive integer, or the padding is unknown.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = SeparableConv2D(8, 3, padding="same")
        >>> layer(jnp.ones((2, 8, 8, 4))).shape, layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
        ((2, 8, 8, 8), (3, 3, 4, 1), (1, 1, 4, 8))

    Source: Chollet 2017, https://arxiv.org/abs/1610.02357
    """

    rank = 2


SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D
