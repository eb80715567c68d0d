"""`Conv1DTranspose`, `Conv2DTranspose` and `Conv3DTranspose`, which make the spatial axes larger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from easyflax import constraints, initializers, regularizers
from easyflax.layers.convolution import ConvolutionLayer
from easyflax.layers.spatial import sizes_each_axis
from easyflax.nnx.layers.checks import describe
from easyflax.nnx.layers.conv_transpose import conv_transpose

__all__ = [
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "Convolution1DTranspose",
    "Convolution2DTranspose",
    "Convolution3DTranspose",
]


class _ConvTranspose(ConvolutionLayer):
    """Base class; see `Conv2DTranspose`."""

    enlarges = True
    filters: int

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        output_padding: int | Sequence[int] | None = None,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._set_count(filters=filters)
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
        )
        self.output_padding = self._checked_output_padding(output_padding)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)

    def make_weights(self, channels: int) -> None:
        self.kernel = self.add_weight(
            shape=(*self.kernel_size, self.filters, channels),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self._make_bias(self.filters)

    def convolve(self, inputs: jax.Array) -> jax.Array:
        return conv_transpose(
            inputs.astype(self.compute_dtype),
            self._in_compute(self.kernel),
            self._in_compute(self.bias),
            strides=self.strides,
            padding=[self._pads(axis) for axis in range(self.rank)],
            kernel_dilation=self.dilation_rate,
            transpose_kernel=True,
        )

    def _pads(self, axis: int) -> tuple[int, int]:
        """Returns the zeros before and after the input, which has `strides - 1` zeros between neighbours."""
        reach, stride = self._reach()[axis], self.strides[axis]
        extra = None if self.output_padding is None else self.output_padding[axis]
        if self.padding == "valid":
            return reach - 1, reach - 1 + (max(stride - reach, 0) if extra is None else extra)
        total = reach + stride - 2 if extra is None else reach + reach % 2 - 2 + extra
        before = min((total + 1) // 2, reach - 1)
        return before, total - before

    def _checked_output_padding(self, output_padding: Any) -> tuple[int, ...] | None:
        if output_padding is None:
            return None
        sizes = sizes_each_axis(self, "output_padding", output_padding, self.rank, least=0)
        if any(size >= stride for size, stride in zip(sizes, self.strides, strict=True)):
            raise ValueError(
                f"{describe(self)}: got output_padding={sizes} with strides={self.strides}, expected less "
                "than the stride for each axis. Pass less, or leave it out."
            )
        return sizes


class Conv1DTranspose(_ConvTranspose):
    """A transposed convolution over sequences and an activation.

    Inputs are `(batch, steps, channels)`. The arguments are those of `Conv2DTranspose`.

    Examples:
        >>> import jax.numpy as jnp
        >>> Conv1DTranspose(4, 3, strides=2)(jnp.ones((2, 5, 3))).shape
        (2, 11, 4)
    """

    rank = 1


class Conv2DTranspose(_ConvTranspose):
    """A transposed convolution over images and an activation: each input adds a kernel's worth of outputs.

    The weights are `kernel`, `(*kernel_size, filters, channels)`, that of the convolution which is
    transposed, and `bias`, `(filters,)`.

    Args:
        filters: number of channels of the output.
        kernel_size: an integer for all spatial axes, or one for each.
        strides: likewise, how many outputs there are for each input.
        padding: `"valid"`, all outputs that an input reaches, or `"same"`: `strides` times as many as inputs.
        output_padding: an integer for all spatial axes, or one for each, less than the strides. Along an axis
            the output then has `(inputs - 1) * strides + output_padding` entries, and `kernel_size` more
            where padding is `"valid"`, or one more where it is `"same"` and the kernel's size is odd.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        dilation_rate: an integer for all spatial axes, or one for each: spreads the kernel.
        activation: a name or a function, see `easyflax.activations`; by default none.
        use_bias: whether to add a bias.
        kernel_initializer: see `easyflax.initializers`.
        bias_initializer: likewise.
        kernel_regularizer: see `easyflax.regularizers`.
        bias_regularizer: likewise.
        activity_regularizer: of the output, likewise.
        kernel_constraint: see `easyflax.constraints`.
        bias_constraint: likewise.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError, ValueError: a size is no positive integer, both strides and dilation are above 1, or the
            padding is unknown or too large.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = Conv2DTranspose(8, 3, strides=2, padding="same")
        >>> layer(jnp.ones((2, 7, 7, 4))).shape, layer.kernel.shape
        ((2, 14, 14, 8), (3, 3, 8, 4))

    Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic", chapter 4,
    https://arxiv.org/abs/1603.07285
    """

    rank = 2


class Conv3DTranspose(_ConvTranspose):
    """A transposed convolution over volumes and an activation.

    Inputs are `(batch, depth, height, width, channels)`. The arguments are those of `Conv2DTranspose`, but
    `data_format` comes before `output_padding`, as in Keras.

    Examples:
        >>> import jax.numpy as jnp
        >>> Conv3DTranspose(4, 2, strides=2)(jnp.ones((2, 3, 3, 3, 1))).shape
        (2, 6, 6, 6, 4)
    """

    rank = 3

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: int | Sequence[int] | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            output_padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            **kwargs,
        )


Convolution1DTranspose = Conv1DTranspose
Convolution2DTranspose = Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
