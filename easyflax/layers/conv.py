"""`Conv1D`, `Conv2D` and `Conv3D`: an `nnx.Conv` under Keras's arguments, followed by an activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax import constraints, initializers, random, regularizers
from easyflax.layers.convolution import ConvolutionLayer
from easyflax.layers.dtypes import ComputeDtype
from easyflax.layers.variable import attach
from easyflax.nnx.layers.checks import describe

__all__ = ["Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D"]


class _Conv(ConvolutionLayer, nnx.Conv):
    """Base class; see `Conv2D`."""

    _paddings: tuple[str, ...] = ("valid", "same")
    filters: int
    groups: int
    dtype: Any = ComputeDtype()  # type: ignore[assignment]

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
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
        self._set_count(filters=filters, groups=groups)
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
            known_paddings=self._paddings,
        )
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self._check_groups(filters=filters)

    def make_weights(self, channels: int) -> None:
        self._check_groups(channels=channels)
        nnx.Conv.__init__(
            self,
            channels,
            self.filters,
            self.kernel_size,
            self.strides,
            padding=self.padding,  # in lower case, which nnx.Conv takes as well
            kernel_dilation=self.dilation_rate,
            feature_group_count=self.groups,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.variable_dtype,
            kernel_init=initializers.as_init(self.kernel_initializer),
            bias_init=initializers.as_init(self.bias_initializer),
            rngs=random.weight_keys,
        )
        attach(self.kernel, regularizer=self.kernel_regularizer, constraint=self.kernel_constraint)
        if self.bias is not None:
            attach(self.bias, regularizer=self.bias_regularizer, constraint=self.bias_constraint)

    def convolve(self, inputs: jax.Array) -> jax.Array:
        return nnx.Conv.__call__(self, inputs)

    def _check_groups(self, **counts: int) -> None:
        for name, count in counts.items():
            if count % self.groups:
                raise ValueError(
                    f"{describe(self)}: got groups={self.groups} with {count} {name}, expected {name} that "
                    "divide into the groups. Choose groups that divide both filters and channels."
                )


class Conv1D(_Conv):
    """A convolution over sequences and an activation: `nnx.Conv` under Keras's arguments.

    Inputs are `(batch, steps, channels)`, the kernel is `(kernel_size, channels // groups, filters)`. The
    arguments are those of `Conv2D`; `padding` may also be `"causal"`: no output depends on later inputs.

    Examples:
        >>> import jax.numpy as jnp
        >>> Conv1D(4, 3, padding="causal")(jnp.ones((2, 10, 3))).shape
        (2, 10, 4)
    """

    rank = 1
    _paddings = ("valid", "same", "causal")


class Conv2D(_Conv):
    """A convolution over images and an activation: `nnx.Conv` under Keras's arguments.

    Built, it is an `nnx.Conv`: the weights are `kernel`, `(*kernel_size, channels // groups, filters)`, and
    `bias`, `(filters,)`.

    Args:
        filters: number of channels of the output.
        kernel_size: an integer for all spatial axes, or one for each.
        strides: likewise, how far the kernel moves.
        padding: `"valid"`, none, or `"same"`: zeros on both sides, for outputs of the input's size divided by
            the strides.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        dilation_rate: an integer for all spatial axes, or one for each: spreads the kernel.
        groups: the channels are divided into this many groups, which do not see each other.
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
        TypeError, ValueError: a size is no positive integer, both strides and dilation are above 1, the
            padding is unknown, or the groups do not divide the channels or filters.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = Conv2D(8, 3, padding="same", activation="relu")
        >>> layer(jnp.ones((2, 28, 28, 1))).shape, layer.kernel.shape
        ((2, 28, 28, 8), (3, 3, 1, 8))

    Source: LeCun et al. 1998, section II, https://doi.org/10.1109/5.726791
    """

    rank = 2


class Conv3D(_Conv):
    """A convolution over volumes and an activation: `nnx.Conv` under Keras's arguments.

    Inputs are `(batch, depth, height, width, channels)`. The arguments are those of `Conv2D`.

    Examples:
        >>> import jax.numpy as jnp
        >>> Conv3D(4, 3)(jnp.ones((2, 8, 8, 8, 1))).shape
        (2, 6, 6, 6, 4)
    """

    rank = 3


Convolution1D = Conv1D
Convolution2D = Conv2D
Convolution3D = Conv3D
