"""`LSTM`: a recurrent layer with a memory that gates write, keep and read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.layer import Shape
from easyflax.layers.recurrent_cell import Noise, RecurrentCell, States
from easyflax.layers.rnn import CellLayer
from easyflax.nnx.layers.lstm import lstm_update

__all__ = ["LSTM", "GatedMemoryCell", "LSTMCell", "check_use_cudnn"]


class GatedMemoryCell(RecurrentCell):
    """What the cells of `LSTM` and `ConvLSTM` have in common: four gates, and a memory besides the output."""

    gates = 4
    state_count = 2

    recurrent_activation: Callable[..., jax.Array]
    unit_forget_bias: bool

    def _initializer_of(self, kind: str) -> Any:
        initializer = super()._initializer_of(kind)
        if kind != "bias" or not self.unit_forget_bias:
            return initializer

        def with_ones_to_forget(shape: tuple[int], dtype: Any) -> jax.Array:
            quarter = shape[0] // 4
            first, rest = (initializer((size,), dtype=dtype) for size in (quarter, 2 * quarter))
            return jnp.concatenate([first, jnp.ones((quarter,), dtype), rest])

        return with_ones_to_forget

    def advance(self, projected: jax.Array, states: States, noise: Noise) -> list[jax.Array]:
        h, c = states
        gates = projected + self._recur(h, self._value(self.recurrent_kernel), noise.states)
        i, f, g, o = jnp.split(gates, 4, axis=self.gate_axis)
        c, h = lstm_update(i, f, g, o, c, gate_fn=self.recurrent_activation, activation_fn=self.activation)
        return [h, c]


class LSTMCell(GatedMemoryCell):
    """One step of an `LSTM`, with the states `[h, c]`: the output and the memory.

    The weights are `kernel`, `(features, 4 * units)`, `recurrent_kernel`, `(units, 4 * units)`, and `bias`,
    `(4 * units,)`, each with the input gate, the forget gate, the candidate and the output gate side by side.

    Args:
        units: length of the output and of each state.
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
        kernel_constraint: see `easyflax.constraints`.
        recurrent_constraint: likewise.
        bias_constraint: likewise.
        dropout: the share of the inputs that is set to zero in training, the same at all steps.
        recurrent_dropout: likewise of the output, where it is fed back; each gate then has its own mask.
        seed: of the dropout, an int; from the global seed by default.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`; `implementation=1` for a mask for each gate also
            without `recurrent_dropout`.

    Raises:
        TypeError, ValueError: `units` is no positive integer, or a dropout no share.

    Source: Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735
    """

    def __init__(
        self,
        units: int,
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
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self._keep(locals(), implementation)

    def build(self, input_shape: Shape) -> None:
        gates = 4 * self.units
        self._add_kernels((input_shape[-1], gates), (self.units, gates), (gates,))


class LSTM(CellLayer):
    """A recurrent layer with a memory: long short-term memory.

    The input is `(batch, time, features)`; how it is called and what it returns is told at `RNN`. Its states
    are the output and the memory.

    Args:
        units: length of the output.
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
        dropout: the share of the inputs that is set to zero in training, the same at all steps.
        recurrent_dropout: likewise of the output, where it is fed back; each gate then has its own mask.
        seed: of the dropout, an int; from the global seed by default.
        return_sequences: whether to return the outputs of all steps, or the last one.
        return_state: whether to return the last states too.
        go_backwards: begins at the last step.
        stateful: begins with the last states of the call before.
        unroll: writes the steps one after the other into the compiled program.
        use_cudnn: "auto" or False; the loop is compiled as any other code.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`; `zero_output_for_mask`, see `RNN`.

    Raises:
        TypeError, ValueError: `units` is no positive integer, or a dropout no share.
        ValueError: `use_cudnn` is something else.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = LSTM(4, return_sequences=True, return_state=True)
        >>> outputs, h, c = layer(jnp.ones((2, 5, 3)))
        >>> outputs.shape, c.shape, [weight.shape for weight in layer.get_weights()]
        ((2, 5, 4), (2, 4), [(3, 16), (4, 16), (16,)])

    Source: Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735
    """

    def __init__(
        self,
        units: int,
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
        unroll: bool = False,
        use_cudnn: Any = "auto",
        **kwargs: Any,
    ) -> None:
        self._hold(LSTMCell, locals())
        self.use_cudnn = check_use_cudnn(self, use_cudnn)


def check_use_cudnn(layer: CellLayer, use_cudnn: Any) -> Any:
    """Returns the argument.

    Raises:
        ValueError: it is neither "auto" nor False.
    """
    if use_cudnn != "auto" and use_cudnn is not False:
        raise ValueError(
            f"{type(layer).__name__}: got use_cudnn={use_cudnn!r}, expected 'auto' or False: the loop is "
            "compiled by XLA on every device. Leave it out."
        )
    return use_cudnn
