"""`GRU`: a recurrent layer whose gates reset and update the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.layer import Shape
from easyflax.layers.lstm import check_use_cudnn
from easyflax.layers.recurrent_cell import Noise, RecurrentCell, States
from easyflax.layers.rnn import CellLayer

__all__ = ["GRU", "GRUCell"]


class GRUCell(RecurrentCell):
    """One step of a `GRU`.

    The weights are `kernel`, `(features, 3 * units)`, `recurrent_kernel`, `(units, 3 * units)`, and `bias`,
    `(2, 3 * units)` for inputs and state, or `(3 * units,)` without `reset_after`, each with the update gate,
    the reset gate and the candidate side by side.

    Args:
        units: length of the output, which is the state.
        activation: of the candidate; see `easyflax.activations`.
        recurrent_activation: of the gates.
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
        recurrent_dropout: likewise of the state, where it is mapped; each gate then has its own mask.
        reset_after: whether the reset gate acts on the mapped state, or on the state before it is mapped.
        seed: of the dropout, an int; from the global seed by default.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`; `implementation=1` for a mask for each gate also
            without `recurrent_dropout`.

    Raises:
        TypeError, ValueError: `units` is no positive integer, or a dropout no share.

    Source: Cho et al. 2014, https://arxiv.org/abs/1406.1078
    """

    gates = 3

    recurrent_activation: Callable[..., jax.Array]
    reset_after: bool

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
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
        reset_after: bool = True,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self._keep(locals(), implementation)

    def build(self, input_shape: Shape) -> None:
        gates = 3 * self.units
        bias = (2, gates) if self.reset_after else (gates,)
        self._add_kernels((input_shape[-1], gates), (self.units, gates), bias)

    def _input_bias(self) -> jax.Array:
        bias = self._value(self.bias)
        return bias[0] if self.reset_after else bias

    def advance(self, projected: jax.Array, states: States, noise: Noise) -> list[jax.Array]:
        h, kernel = states[0], self._value(self.recurrent_kernel)
        x_z, x_r, x_n = jnp.split(projected, 3, axis=-1)
        mapped = self._mapped_after(h, kernel, noise) if self.reset_after else None
        s_z, s_r = self._mapped_gates(h, kernel, noise) if mapped is None else mapped[:2]
        z = self.recurrent_activation(x_z + s_z)
        r = self.recurrent_activation(x_r + s_r)
        s_n = self._mapped_reset(r, h, kernel, noise) if mapped is None else r * mapped[2]
        return [z * h + (1 - z) * self.activation(x_n + s_n)]

    def _mapped_after(self, h: jax.Array, kernel: jax.Array, noise: Noise) -> list[jax.Array]:
        mapped = self._recur(h, kernel, noise.states)
        if self.bias is not None:
            mapped += self._value(self.bias)[1]
        return jnp.split(mapped, 3, axis=-1)

    def _mapped_gates(self, h: jax.Array, kernel: jax.Array, noise: Noise) -> list[jax.Array]:
        both = self._recur(h, kernel[:, : 2 * self.units], noise.states and noise.states[:2])
        return jnp.split(both, 2, axis=-1)

    def _mapped_reset(self, r: jax.Array, h: jax.Array, kernel: jax.Array, noise: Noise) -> jax.Array:
        kept = h if noise.states is None else h * noise.states[2]
        return (r * kept) @ kernel[:, 2 * self.units :]


class GRU(CellLayer):
    """A recurrent layer whose gates reset and update the state: gated recurrent units.

    The input is `(batch, time, features)`; how it is called and what it returns is told at `RNN`. Its state
    is the output.

    Args:
        units: length of the output.
        activation: of the candidate; see `easyflax.activations`.
        recurrent_activation: of the gates.
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
        recurrent_dropout: likewise of the state, where it is mapped; each gate then has its own mask.
        seed: of the dropout, an int; from the global seed by default.
        return_sequences: whether to return the outputs of all steps, or the last one.
        return_state: whether to return the last state too.
        go_backwards: begins at the last step.
        stateful: begins with the last state of the call before.
        unroll: writes the steps one after the other into the compiled program.
        reset_after: whether the reset gate acts on the mapped state, or on the state before it is mapped.
        use_cudnn: "auto" or False; the loop is compiled as any other code.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`; `zero_output_for_mask`, see `RNN`.

    Raises:
        TypeError, ValueError: `units` is no positive integer, or a dropout no share.
        ValueError: `use_cudnn` is something else.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = GRU(4)
        >>> layer(jnp.ones((2, 5, 3))).shape, [weight.shape for weight in layer.get_weights()]
        ((2, 4), [(3, 12), (4, 12), (2, 12)])

    Source: Cho et al. 2014, https://arxiv.org/abs/1406.1078
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
        reset_after: bool = True,
        use_cudnn: Any = "auto",
        **kwargs: Any,
    ) -> None:
        self._hold(GRUCell, locals())
        self.use_cudnn = check_use_cudnn(self, use_cudnn)
