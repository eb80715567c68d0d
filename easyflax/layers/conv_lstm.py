"""`ConvLSTM1D`, `ConvLSTM2D`, `ConvLSTM3D`: LSTMs over images, whose products are convolutions."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from easyflax.layers.lstm import GatedMemoryCell
from easyflax.layers.recurrent_cell import Noise
from easyflax.layers.rnn import CellLayer
from easyflax.nnx.core.naming import describe
from easyflax.nnx.layers.checks import check_sizes
from easyflax.nnx.layers.conv import conv

__all__ = ["ConvLSTM", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "ConvLSTMCell"]


class ConvLSTMCell(GatedMemoryCell):
    """One step of a `ConvLSTM` layer, with the states `[h, c]`: the output and the memory.

    The weights are `kernel`, `(*kernel_size, channels, 4 * filters)`, `recurrent_kernel`,
    `(*kernel_size, filters, 4 * filters)`, and `bias`, `(4 * filters,)`, with the gates of `LSTMCell`.

    Args:
        rank: the number of spatial axes.
        filters: see `ConvLSTM2D`, as all other arguments.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.
    """

    rank: int
    filters: int

    def __init__(
        self,
        rank: int,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._keep(locals(), implementation=1)
        self.kernel_size = self._each_axis("kernel_size", kernel_size)
        self.strides = self._each_axis("strides", strides)
        self.dilation_rate = self._each_axis("dilation_rate", dilation_rate)
        self.gate_axis = -1 if data_format != "channels_first" else -self.rank - 1
        self.padding = self._one_of("padding", str(padding).lower(), ("valid", "same"))
        self.data_format = self._one_of(
            "data_format", data_format or "channels_last", ("channels_last", "channels_first")
        )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{type(self).__name__}: got strides={self.strides} with dilation_rate={self.dilation_rate}, "
                "expected one of them to be 1. Leave one out."
            )

    def _each_axis(self, name: str, value: Any) -> tuple[int, ...]:
        sizes = (value,) * self.rank if isinstance(value, int) else tuple(value)
        if len(sizes) != self.rank:
            raise ValueError(
                f"{type(self).__name__}: got {name}={value!r}, expected one integer or {self.rank}. Pass one "
                "for each spatial axis."
            )
        for size in sizes:
            check_sizes(self, **{name: size})
        return sizes

    def _one_of(self, name: str, value: Any, known: tuple[str, ...]) -> str:
        if value not in known:
            raise ValueError(
                f"{type(self).__name__}: got {name}={value!r}, expected one of {list(known)}. Choose one."
            )
        return value

    # -- sizes

    @property
    def state_size(self) -> list[int]:
        return [self.filters, self.filters]

    @property
    def output_size(self) -> int:
        return self.filters

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        del states_shape
        if None in inputs_shape[1:]:
            raise ValueError(
                f"{describe(self)}: got inputs of shape {tuple(inputs_shape)}, expected known sizes of all "
                "axes besides the first, since the states have them too. State them in ef.Input."
            )
        self._step_shape = tuple(inputs_shape[1:])
        channels = self._step_shape[0 if self.data_format == "channels_first" else -1]
        gates, size = 4 * self.filters, self.kernel_size
        self._add_kernels((*size, channels, gates), (*size, self.filters, gates), (gates,))

    def _input_shape(self, batch_size: int) -> tuple[int, ...]:
        return (batch_size, *self._step_shape)

    def _state_shape(self, batch_size: Any) -> tuple[int, ...]:
        shapes = self._input_shape(1), (*self.kernel.shape[:-1], self.filters)
        inputs, kernel = (jax.ShapeDtypeStruct(shape, self.compute_dtype) for shape in shapes)
        return (batch_size, *jax.eval_shape(self._map_inputs, inputs, kernel).shape[1:])

    # -- one step

    def project(self, inputs: jax.Array, noise: Noise) -> jax.Array:
        step_shape = inputs.shape[-self.rank - 1 :]
        if step_shape != self._step_shape:
            raise ValueError(
                f"{describe(self)}: got inputs of shape {step_shape} at each step, expected "
                f"{self._step_shape}, for which the layer was built. Pass inputs of that shape, or make a "
                "new layer."
            )
        projected = self._by_gate(self._map_inputs, inputs, self._value(self.kernel), noise.inputs)
        if self.bias is None:
            return projected
        after = self.rank if self.data_format == "channels_first" else 0
        return projected + self._value(self.bias).reshape((-1,) + (1,) * after)

    def _recur(self, state: jax.Array, kernel: jax.Array, noise: Any) -> jax.Array:
        return self._by_gate(self._map_state, state, kernel, noise)

    def _map_inputs(self, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        return self._convolve(inputs, kernel, self.strides, self.padding, self.dilation_rate)

    def _map_state(self, state: jax.Array, kernel: jax.Array) -> jax.Array:
        ones = (1,) * self.rank
        return self._convolve(state, kernel, ones, "same", ones)

    def _convolve(self, x: jax.Array, kernel: jax.Array, strides: Any, padding: str, dilation: Any) -> Any:
        """Convolves the last axes; those before the batch may be any."""
        leading = x.shape[: -self.rank - 1]
        x = x.reshape(math.prod(leading), *x.shape[-self.rank - 1 :])
        x = jnp.moveaxis(x, self.gate_axis, -1)
        ones = (1,) * self.rank
        y = conv(
            x,
            kernel,
            strides=strides,
            padding=padding.upper(),
            input_dilation=ones,
            kernel_dilation=dilation,
        )
        y = jnp.moveaxis(y, -1, self.gate_axis)
        return y.reshape(*leading, *y.shape[1:])


class ConvLSTM(CellLayer):
    """An LSTM over images: the products are convolutions. Base class of those for each number of axes.

    Args:
        filters: number of channels of the output.
        kernel_size: size of the kernels, an integer or one for each spatial axis.
        strides: of the convolution of the inputs, likewise.
        padding: "valid", no padding, or "same", in the convolution of the inputs. That of the output, where
            it is fed back, keeps its size.
        data_format: "channels_last" (the default): `(batch, time, *spatial, channels)`, or "channels_first":
            `(batch, time, channels, *spatial)`.
        dilation_rate: distance of the kernel's points in the convolution of the inputs.
        activation: of the candidate and of the memory where it is read; see `easyflax.activations`.
        recurrent_activation: of the gates.
        use_bias: whether to add a bias.
        kernel_initializer: see `easyflax.initializers`.
        recurrent_initializer: likewise.
        bias_initializer: likewise.
        unit_forget_bias: whether the bias of the forget gate starts as one.
        kernel_regularizer: see `easyflax.regularizers`.
        recurrent_regularizer: likewise.
        bias_regularizer: likewise.
        activity_regularizer: of the output, likewise.
        kernel_constraint: see `easyflax.constraints`.
        recurrent_constraint: likewise.
        bias_constraint: likewise.
        dropout: the share of the inputs that is set to zero in training, the same at all steps, with a mask
            for each gate.
        recurrent_dropout: likewise of the output, where it is fed back.
        seed: of the dropout, an int; from the global seed by default.
        return_sequences: whether to return the outputs of all steps, or the last one.
        return_state: whether to return the last states too.
        go_backwards: begins at the last step.
        stateful: begins with the last states of the call before.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`; `unroll`, `zero_output_for_mask`, see `RNN`.

    Raises:
        TypeError, ValueError: a size is no positive integer, or another argument is unknown; or there are
            strides as well as dilations.

    Source: Shi et al. 2015, https://arxiv.org/abs/1506.04214
    """

    rank: ClassVar[int]

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Any = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs: Any,
    ) -> None:
        self._hold(ConvLSTMCell, {**locals(), "rank": self.rank})


class ConvLSTM1D(ConvLSTM):
    """An LSTM over sequences `(batch, time, length, channels)`, with the arguments of `ConvLSTM`.

    Examples:
        >>> import jax.numpy as jnp
        >>> ConvLSTM1D(4, 3)(jnp.ones((1, 2, 8, 3))).shape
        (1, 6, 4)
    """

    rank = 1


class ConvLSTM2D(ConvLSTM):
    """An LSTM over sequences `(batch, time, rows, columns, channels)`, with the arguments of `ConvLSTM`.

    Examples:
        >>> import jax.numpy as jnp
        >>> ConvLSTM2D(4, 3)(jnp.ones((1, 2, 8, 8, 3))).shape
        (1, 6, 6, 4)
    """

    rank = 2


class ConvLSTM3D(ConvLSTM):
    """An LSTM over `(batch, time, depth, rows, columns, channels)`, with the arguments of `ConvLSTM`.

    Examples:
        >>> import jax.numpy as jnp
        >>> ConvLSTM3D(4, 3)(jnp.ones((1, 2, 4, 4, 4, 3))).shape
        (1, 2, 2, 2, 4)
    """

    rank = 3
