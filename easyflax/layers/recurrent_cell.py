"""What the recurrent cells have in common: arguments, weights and dropout that is the same at all steps.

A cell of this kind states its step in two parts, so that a layer maps the inputs of all steps at once:
`project` maps inputs, `advance` goes on from states with one step of that. The first state is the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp

from easyflax import activations, constraints, initializers, random, regularizers
from easyflax.layers.layer import Layer, Shape
from easyflax.nnx.core.naming import describe
from easyflax.nnx.layers.checks import check_sizes

__all__ = ["Noise", "RecurrentCell", "is_whole"]

States = Sequence[jax.Array]

_RESOLVE: dict[str, Callable[[Any], Any]] = {
    "activation": activations.get,
    "initializer": initializers.get,
    "regularizer": regularizers.get,
    "constraint": constraints.get,
}


class Noise(NamedTuple):
    """What inputs and states are multiplied with: an array for all gates, a tuple of one for each, or
    None."""

    inputs: Any = None
    states: Any = None


class RecurrentCell(Layer):
    """Base class of `SimpleRNNCell`, `LSTMCell`, `GRUCell` and the cells of the `ConvLSTM` layers.

    Attributes:
        gates: how many gates the kernels hold side by side.
        state_count: how many states there are.
        gate_axis: the axis along which mapped inputs and states hold the gates.
    """

    gates: ClassVar[int] = 1
    state_count: ClassVar[int] = 1
    gate_axis: int = -1

    # arguments that all cells have
    units: int
    activation: Callable[..., jax.Array]
    use_bias: bool
    kernel_initializer: Any
    recurrent_initializer: Any
    bias_initializer: Any
    kernel_regularizer: Any
    recurrent_regularizer: Any
    bias_regularizer: Any
    kernel_constraint: Any
    recurrent_constraint: Any
    bias_constraint: Any
    dropout: float
    recurrent_dropout: float
    seed: Any
    # weights
    kernel: Any
    recurrent_kernel: Any
    bias: Any

    def _keep(self, given: Mapping[str, Any], implementation: int = 2) -> None:
        """Sets the arguments of `__init__`, its `locals()`, as attributes, names resolved to objects."""
        for name, value in given.items():
            if name not in ("self", "kwargs", "__class__"):
                setattr(self, name, _RESOLVE.get(name.rpartition("_")[2], _same)(value))
        self._check_arguments()
        # One mask for each gate, as in Keras, where the states are dropped too.
        self._masks = self.gates if self.recurrent_dropout or implementation == 1 else 1
        if self.dropout or self.recurrent_dropout:
            self.seed_generator = random.SeedGenerator(self.seed)

    def _check_arguments(self) -> None:
        size = "units" if hasattr(self, "units") else "filters"
        check_sizes(self, **{size: getattr(self, size)})
        for name in ("dropout", "recurrent_dropout"):
            rate = getattr(self, name)
            if not 0 <= rate <= 1:
                raise ValueError(
                    f"{type(self).__name__}: got {name}={rate}, expected a share from 0 to 1. Pass for "
                    f"example {name}=0.2."
                )

    # -- sizes

    @property
    def state_size(self) -> Any:
        """The length of the state, or a list of one for each."""
        return self.units if self.state_count == 1 else [self.units] * self.state_count

    @property
    def output_size(self) -> int:
        """The length of the output."""
        return self.units

    def get_initial_state(self, batch_size: int | None = None) -> list[jax.Array]:
        """Returns states of zeros, `(batch_size, units)` each."""
        shape = self._state_shape(batch_size)
        return [jnp.zeros(shape, self.compute_dtype) for _ in range(self.state_count)]

    def _state_shape(self, batch_size: Any) -> tuple[int, ...]:
        return (batch_size, self.units)

    def _input_shape(self, batch_size: int) -> tuple[int, ...]:
        return (batch_size, self.kernel.shape[0])

    # -- weights

    def _add_kernels(self, kernel: Shape, recurrent_kernel: Shape, bias: Shape) -> None:
        for name, shape in (("kernel", kernel), ("recurrent_kernel", recurrent_kernel), ("bias", bias)):
            kind = name.removesuffix("_kernel")  # of the arguments: recurrent_initializer
            weight = None
            if name != "bias" or self.use_bias:
                weight = self.add_weight(
                    shape=shape,
                    initializer=self._initializer_of(kind),
                    regularizer=getattr(self, f"{kind}_regularizer"),
                    constraint=getattr(self, f"{kind}_constraint"),
                    name=name,
                )
            setattr(self, name, weight)

    def _initializer_of(self, kind: str) -> Any:
        return getattr(self, f"{kind}_initializer")

    def _value(self, weight: Any) -> jax.Array:
        return weight[...].astype(self.compute_dtype)

    # -- one step

    def call(self, inputs: jax.Array, states: Any, training: bool = False) -> tuple[jax.Array, Any]:
        """Returns the output and the new states, in the nesting of `states`."""
        is_nested = isinstance(states, list | tuple)
        noise = self.draw_noise(inputs.shape[0], training)
        new = self.advance(self.project(inputs, noise), states if is_nested else [states], noise)
        return new[0], new if is_nested else new[0]

    def draw_noise(self, batch_size: int, training: bool) -> Noise:
        """Returns what the dropouts multiply with at every step of one call."""
        if not training:
            return Noise()
        return Noise(
            self._draw(self.dropout, self._input_shape(batch_size)),
            self._draw(self.recurrent_dropout, self._state_shape(batch_size)),
        )

    def _draw(self, rate: float, shape: tuple[int, ...]) -> Any:
        if not rate:
            return None
        ones = jnp.ones(shape, self.compute_dtype)
        drawn = tuple(random.dropout(ones, rate, seed=self.seed_generator) for _ in range(self._masks))
        return drawn if self._masks > 1 else drawn[0]

    def project(self, inputs: jax.Array, noise: Noise) -> jax.Array:
        """Returns `inputs` mapped to the gates, with the bias; of one step or, time first, of several."""
        features = self.kernel.shape[-2]
        if inputs.shape[-1] != features:
            raise ValueError(
                f"{describe(self)}: input has {inputs.shape[-1]} features in its last axis, expected "
                f"{features} (kernel is {self.kernel.shape}). Pass inputs of shape (..., {features}), or "
                "make a new layer."
            )
        projected = self._by_gate(jnp.matmul, inputs, self._value(self.kernel), noise.inputs)
        return projected if self.bias is None else projected + self._input_bias()

    def _input_bias(self) -> jax.Array:
        return self._value(self.bias)

    def _recur(self, state: jax.Array, kernel: jax.Array, noise: Any) -> jax.Array:
        return self._by_gate(jnp.matmul, state, kernel, noise)

    def _by_gate(
        self, multiply: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, noise: Any
    ) -> jax.Array:
        """Returns the products of `x`, times the noise of each gate, with the parts of `kernel`."""
        if not isinstance(noise, tuple):
            return multiply(x if noise is None else x * noise, kernel)
        parts = jnp.split(kernel, len(noise), axis=-1)
        return jnp.concatenate([multiply(x * one, part) for one, part in zip(noise, parts)], self.gate_axis)

    def advance(self, projected: jax.Array, states: States, noise: Noise) -> list[jax.Array]:
        """Returns the new states, the first of which is the output."""
        raise NotImplementedError


def is_whole(cell: Any) -> TypeGuard[RecurrentCell]:
    """Says whether a cell's call is `project` and `advance`: it is of this kind, and not redefined."""
    return isinstance(cell, RecurrentCell) and type(cell).call is RecurrentCell.call


def _same(value: Any) -> Any:
    return value
