"""Activation functions as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from easyflax import activations, constraints, initializers, regularizers
from easyflax.layers.layer import Layer, Shape
from easyflax.nnx.layers import checks

__all__ = ["ELU", "Activation", "LeakyReLU", "PReLU", "ReLU", "Softmax"]


class Activation(Layer):
    """Applies an activation function.

    Args:
        activation: a name or a function, see `easyflax.activations`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Examples:
        >>> import jax.numpy as jnp
        >>> Activation("relu")(jnp.array([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    built = True
    supports_masking = True

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: jax.Array) -> jax.Array:
        return self.activation(inputs)


class ReLU(Layer):
    """Returns the input where it is above `threshold`, else `negative_slope * (inputs - threshold)`.

    Args:
        max_value: the largest value that is returned; by default there is none.
        negative_slope: the slope below the threshold.
        threshold: where the function bends.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: one of them is negative.
    """

    built = True
    supports_masking = True

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_not_negative(self, max_value=0.0 if max_value is None else max_value)
        _check_not_negative(self, negative_slope=negative_slope, threshold=threshold)
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold

    def call(self, inputs: jax.Array) -> jax.Array:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(Layer):
    """Returns the input where it is positive, else `negative_slope` times the input.

    Args:
        negative_slope: the slope for negative inputs.
        **kwargs: `name`, `dtype`, see `Layer`; `alpha`, an older spelling of `negative_slope`.

    Raises:
        ValueError: `negative_slope` is negative.
    """

    built = True
    supports_masking = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        _check_not_negative(self, negative_slope=negative_slope)
        self.negative_slope = negative_slope

    def call(self, inputs: jax.Array) -> jax.Array:
        return activations.leaky_relu(inputs, self.negative_slope)


class ELU(Layer):
    """Returns the input where it is positive, else `alpha * (exp(inputs) - 1)`.

    Args:
        alpha: minus what is returned for very negative inputs.
        **kwargs: `name`, `dtype`, see `Layer`.
    """

    built = True
    supports_masking = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: jax.Array) -> jax.Array:
        return activations.elu(inputs, self.alpha)


class Softmax(Layer):
    """Returns `exp(x) / sum(exp(x))` along an axis, or over several.

    Args:
        axis: one axis, or several.
        **kwargs: `name`, `dtype`, see `Layer`.

    Examples:
        >>> import jax.numpy as jnp
        >>> Softmax()(jnp.zeros((1, 3)), mask=jnp.array([[True, True, False]])).tolist()
        [[0.5, 0.5, 0.0]]
    """

    built = True
    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Returns probabilities of the shape of `inputs`, 0 where `mask` is False or at most 0.5."""
        if mask is None:
            return activations.softmax(inputs, self.axis)
        checks.check_mask(self, inputs, mask)
        mask = mask if mask.dtype == bool else mask > 0.5
        lowest = -3e4 if inputs.dtype == jnp.float16 else -1e9  # not infinite: a row may be masked as a whole
        return jnp.where(mask, activations.softmax(jnp.where(mask, inputs, lowest), self.axis), 0)


class PReLU(Layer):
    """Returns the input where it is positive, else a learned `alpha` times the input.

    The weight is `alpha`, of the input's shape without the batch axis, 1 along `shared_axes`.

    Args:
        alpha_initializer: see `easyflax.initializers`.
        alpha_regularizer: see `easyflax.regularizers`.
        alpha_constraint: see `easyflax.constraints`.
        shared_axes: the axes along which there is one slope: `[1, 2]` for one a channel of an image.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        ValueError: the size of an axis that is not shared is free, or not the one that it was made for.

    Source: He et al. 2015, equation 1, https://arxiv.org/abs/1502.01852
    """

    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        self.shared_axes = (
            [shared_axes] if isinstance(shared_axes, int) else shared_axes and list(shared_axes)
        )

    def build(self, input_shape: Shape) -> None:
        shared = {axis % len(input_shape) for axis in self.shared_axes or ()}
        shape = [1 if axis in shared else size for axis, size in enumerate(input_shape)][1:]
        if None in shape:
            raise ValueError(
                f"{checks.describe(self)}: got an input of shape {tuple(input_shape)}, expected known sizes: "
                f"there is one slope for each entry. State them, or share axis {1 + shape.index(None)} with "
                "shared_axes."
            )
        self.alpha = self.add_weight(
            shape=shape,
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
            name="alpha",
        )

    def call(self, inputs: jax.Array) -> jax.Array:
        alpha = self.alpha[...].astype(inputs.dtype)
        fits = all(size in (1, given) for size, given in zip(alpha.shape, inputs.shape[1:]))
        if alpha.ndim != inputs.ndim - 1 or not fits:
            raise ValueError(
                f"{checks.describe(self)}: got an input of shape {inputs.shape}, expected one that the "
                f"slopes of shape {alpha.shape} were made for. Pass rows of that shape, or make a new layer."
            )
        return jax.nn.relu(inputs) - alpha * jax.nn.relu(-inputs)


def _check_not_negative(layer: Layer, **values: Any) -> None:
    for name, value in values.items():
        if value is None or value < 0:
            raise ValueError(
                f"{type(layer).__name__}: got {name}={value}, expected a number that is not negative. "
                f"Pass {name} of at least 0."
            )
