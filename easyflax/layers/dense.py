"""`Dense`: an `nnx.Linear` under Keras's arguments, followed by an activation."""

from __future__ import annotations

from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax import activations, constraints, initializers, random, regularizers
from easyflax.layers.dtypes import ComputeDtype
from easyflax.layers.layer import Layer, Shape
from easyflax.layers.variable import attach
from easyflax.nnx.layers import checks

__all__ = ["Dense"]


class Dense(Layer, nnx.Linear):
    """An affine map over the last axis and an activation: `y = activation(x W + b)`.

    Built, it is an `nnx.Linear`: the weights are `kernel`, `(features, units)`, and `bias`, `(units,)`.

    Args:
        units: size of the last axis of the output.
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
        TypeError, ValueError: `units` is no positive integer.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = Dense(4, activation="relu")
        >>> layer(jnp.ones((2, 3))).shape, layer.kernel.shape
        ((2, 4), (3, 4))
    """

    supports_masking = True
    dtype: Any = ComputeDtype()  # type: ignore[assignment]

    def __init__(
        self,
        units: int,
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
        checks.check_sizes(self, units=units)
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape: Shape) -> None:
        nnx.Linear.__init__(
            self,
            known_features(self, input_shape),
            self.units,
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

    def call(self, inputs: jax.Array) -> jax.Array:
        return self.activation(nnx.Linear.__call__(self, inputs))


def known_features(layer: Layer, input_shape: Shape, axis: int = -1) -> int:
    """Returns the size of the axis that weights are made for.

    Raises:
        ValueError: the input has no such axis besides the batch, or its size is free.
    """
    if len(input_shape) < 2 or input_shape[axis] is None:
        raise ValueError(
            f"{checks.describe(layer)}: got an input of shape {tuple(input_shape)}, expected two axes or "
            f"more and a known size of axis {axis}, which the weights depend on. State it, for example "
            "ef.Input((None, 16))."
        )
    return int(input_shape[axis])  # type: ignore[arg-type]  # not None, see above
