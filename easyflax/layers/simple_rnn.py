"""`SimpleRNN`: a recurrent layer whose state is its output."""

from __future__ import annotations

from typing import Any

import jax

from easyflax.layers.layer import Shape
from easyflax.layers.recurrent_cell import Noise, RecurrentCell, States
from easyflax.layers.rnn import CellLayer

__all__ = ["SimpleRNN", "SimpleRNNCell"]


class SimpleRNNCell(RecurrentCell):
    """One step of a `SimpleRNN`: `h' = activation(x W + b + h U)`.

    The weights are `kernel`, `(features, units)`, `recurrent_kernel`, `(units, units)`, and `bias`.

    Args:
        units: length of the output and of the state.
        activation: a name or a function, see `easyflax.activations`.
        use_bias: whether to add a bias.
        kernel_initializer: see `easyflax.initializers`.
        recurrent_initializer: likewise.
        bias_initializer: likewise.
        kernel_regularizer: see `easyflax.regularizers`.
        recurrent_regularizer: likewise.
        bias_regularizer: likewise.
        kernel_constraint: see `easyflax.constraints`.
        recurrent_constraint: likewise.
        bias_constraint: likewise.
        dropout: the share of the inputs that is set to zero in training, the same at all steps.
        recurrent_dropout: likewise of the state, where it is mapped.
        seed: of the dropout, an int; from the global seed by default.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError, ValueError: `units` is no positive integer, or a dropout no share.
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
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
        self._keep(locals())

    def build(self, input_shape: Shape) -> None:
        self._add_kernels((input_shape[-1], self.units), (self.units, self.units), (self.units,))

    def advance(self, projected: jax.Array, states: States, noise: Noise) -> list[jax.Array]:
        recurrent = self._recur(states[0], self._value(self.recurrent_kernel), noise.states)
        return [self.activation(projected + recurrent)]


class SimpleRNN(CellLayer):
    """A recurrent layer whose output is fed back: `h' = activation(x W + b + h U)`.

    The input is `(batch, time, features)`; how it is called and what it returns is told at `RNN`.

    Args:
        units: length of the output.
        activation: a name or a function, see `easyflax.activations`.
        use_bias: whether to add a bias.
        kernel_initializer: see `easyflax.initializers`.
        recurrent_initializer: likewise.
        bias_initializer: likewise.
        kernel_regularizer: see `easyflax.regularizers`.
        recurrent_regularizer: likewise.
        bias_regularizer: likewise.
        activity_regularizer: of the output, likewise.
        kernel_constraint: see `easyflax.constraints`.
        recurrent_constraint: likewise.
        bias_constraint: likewise.
        dropout: the share of the inputs that is set to zero in training, the same at all steps.
        recurrent_dropout: likewise of the state, where it is mapped.
        return_sequences: whether to return the outputs of all steps, or the last one.
        return_state: whether to return the last state too.
        go_backwards: begins at the last step.
        stateful: begins with the last state of the call before.
        unroll: writes the steps one after the other into the compiled program.
        seed: of the dropout, an int; from the global seed by default.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`; `zero_output_for_mask`, see `RNN`.

    Raises:
        TypeError, ValueError: `units` is no positive integer, or a dropout no share.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = SimpleRNN(4)
        >>> layer(jnp.ones((2, 5, 3))).shape, [weight.shape for weight in layer.get_weights()]
        ((2, 4), [(3, 4), (4, 4), (4,)])
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        self._hold(SimpleRNNCell, locals())
