"""`ConvolutionLayer`: what convolutions, transposed, depthwise and separable ones have in common."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from easyflax import activations, constraints, initializers, regularizers
from easyflax.layers.arguments import check_data_format
from easyflax.layers.layer import Shape
from easyflax.layers.spatial import SpatialLayer, known_padding, sizes_each_axis
from easyflax.nnx.layers.checks import check_sizes, describe

__all__ = ["ConvolutionLayer"]


class ConvolutionLayer(SpatialLayer):
    """Base class of convolutions: checks shapes, and computes with channels last.

    Subclasses call `_set_options` in `__init__`, and define `make_weights` and `convolve`.
    """

    enlarges: ClassVar[bool] = False  # inputs of any size will do

    kernel_size: tuple[int, ...]
    strides: Any
    dilation_rate: tuple[int, ...]
    padding: Any
    activation: Any
    use_bias: bool
    bias: Any
    in_features: int

    def _set_options(
        self,
        *,
        kernel_size: Any,
        strides: Any,
        padding: Any,
        data_format: Any,
        dilation_rate: Any,
        activation: Any,
        use_bias: bool,
        bias_initializer: Any,
        bias_regularizer: Any,
        bias_constraint: Any,
        known_paddings: tuple[str, ...] = ("valid", "same"),
        strides_and_dilation: bool = False,
    ) -> None:
        """Keeps the arguments that all convolutions have; `strides_and_dilation`: may both be above 1."""
        self.kernel_size = sizes_each_axis(self, "kernel_size", kernel_size, self.rank)
        self.strides = sizes_each_axis(self, "strides", strides, self.rank)
        self.dilation_rate = sizes_each_axis(self, "dilation_rate", dilation_rate, self.rank)
        self.padding = known_padding(self, padding, known_paddings)
        self.data_format = check_data_format(self, data_format)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = initializers.get(bias_initializer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.bias_constraint = constraints.get(bias_constraint)
        if not strides_and_dilation and max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{describe(self)}: got strides={self.strides} and dilation_rate={self.dilation_rate}, "
                "expected one of them to be 1. Leave one of them out."
            )

    def _set_count(self, **counts: Any) -> None:
        """Keeps arguments that must be positive integers."""
        check_sizes(self, **counts)
        for name, value in counts.items():
            setattr(self, name, value)

    # -- what subclasses define

    def make_weights(self, channels: int) -> None:
        """Makes the weights for inputs with that many channels."""
        raise NotImplementedError

    def convolve(self, inputs: jax.Array) -> jax.Array:
        """Returns the convolution of inputs with channels last, the bias included."""
        raise NotImplementedError

    # -- the same for all

    def build(self, input_shape: Shape) -> None:
        """Makes the weights.

        Raises:
            ValueError: the shape does not fit.
        """
        self.check_shape(input_shape)
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ValueError(
                f"{describe(self)}: got an input of shape {tuple(input_shape)}, expected {self.layout()} "
                "with a known number of channels, which the weights depend on. State it, for example "
                f"ef.Input({(None,) * self.rank + (3,)})."
            )
        self.in_features = int(channels)
        self.make_weights(self.in_features)

    def call(self, inputs: jax.Array) -> jax.Array:
        """Returns the convolution after the activation."""
        self.check_shape(jnp.shape(inputs))
        outputs = self.convolve(self.channels_last(inputs))
        return self.activation(self.as_given(outputs))

    def check_shape(self, shape: Shape) -> None:
        """Checks the shape of an input, also against the weights where there are any.

        Raises:
            ValueError: it does not fit.
        """
        self.check_rank(shape)
        self._check_channels(shape)
        if self.padding == "valid" and not self.enlarges:
            self._check_kernel_fits_in(shape)

    def _check_channels(self, shape: Shape) -> None:
        if self.built and shape[self.channel_axis] != self.in_features:
            raise ValueError(
                f"{describe(self)}: got an input of shape {tuple(shape)} with {shape[self.channel_axis]} "
                f"channels, expected {self.layout()} with {self.in_features}, for which the weights were "
                "made. Pass inputs of that shape, or make a new layer."
            )

    def _check_kernel_fits_in(self, shape: Shape) -> None:
        for axis, size, needed in zip(self.spatial_axes, self.kernel_size, self._reach(), strict=True):
            length = shape[axis]
            if length is not None and length < needed:
                raise ValueError(
                    f"{describe(self)}: got an input of shape {tuple(shape)} with size {length} of axis "
                    f"{axis}, expected at least {needed}, so that a kernel of {size} fits in. Pass larger "
                    "inputs, or padding='same'."
                )

    def _reach(self) -> tuple[int, ...]:
        """How many inputs the kernel spans along each spatial axis."""
        return tuple(
            (size - 1) * rate + 1 for size, rate in zip(self.kernel_size, self.dilation_rate, strict=True)
        )

    def _make_bias(self, filters: int) -> None:
        self.bias = (
            self.add_weight(
                shape=(filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
            if self.use_bias
            else None
        )

    def _in_compute(self, variable: Any) -> Any:
        """Returns the array of a variable in the dtype to compute in; None for None."""
        return None if variable is None else variable[...].astype(self.compute_dtype)
