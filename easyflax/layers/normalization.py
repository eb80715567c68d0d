"""Normalisation of each example by itself: `LayerNormalization`, `RMSNormalization`, `UnitNormalization`."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import easyflax.nnx as nnx
from easyflax.layers.affine import AffineLayer, feature_sizes, in_dtypes_of
from easyflax.layers.dtypes import ComputeDtype
from easyflax.layers.layer import Layer, Shape

__all__ = ["LayerNormalization", "RMSNormalization", "UnitNormalization", "l2_normalize"]


class LayerNormalization(AffineLayer, nnx.LayerNorm):
    """Normalises each example over its features to mean 0 and variance 1.

    Built, it is an `nnx.LayerNorm`: the weights are `gamma` and `beta`, of the sizes of the axes, also known
    as `scale` and `bias`. Statistics are computed in float32 at least.

    Args:
        axis: the axis with the features, or several.
        epsilon: added to the variance.
        center: whether to add `beta`.
        scale: whether to multiply by `gamma`.
        beta_initializer: see `easyflax.initializers`.
        gamma_initializer: likewise.
        beta_regularizer: see `easyflax.regularizers`.
        gamma_regularizer: likewise.
        beta_constraint: see `easyflax.constraints`.
        gamma_constraint: likewise.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError: `axis` is neither an integer nor a list of integers.
        ValueError: `rms_scaling=True`, see `RMSNormalization`.

    Examples:
        >>> import jax.numpy as jnp
        >>> LayerNormalization(epsilon=0.0)(jnp.array([[1.0, 3.0]])).tolist()
        [[-1.0, 1.0]]

    Source: Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450
    """

    autocast = False  # as in Keras: what comes in float32 is normalised so, under a mixed policy too
    dtype: Any = ComputeDtype(at_least="float32")  # type: ignore[assignment]

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("rms_scaling", False):
            raise ValueError(
                "LayerNormalization: got rms_scaling=True, which divides by the standard deviation and not "
                "by the root mean square, expected False. Use RMSNormalization."
            )
        super().__init__(**kwargs)
        self._set_affine(
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
        )
        self.axis = _checked_axis(self, axis)
        self.epsilon = epsilon

    def build(self, input_shape: Shape) -> None:
        axes = _sorted_axes(self.axis)
        shape = feature_sizes(self, input_shape, axes)
        scale = self.use_scale
        nnx.LayerNorm.__init__(
            self,
            math.prod(shape),
            epsilon=self.epsilon,
            dtype=self.dtype,
            param_dtype=self.variable_dtype,
            use_bias=False,
            use_scale=False,
            reduction_axes=axes,
            feature_axes=axes,
            use_fast_variance=False,
            rngs=nnx.Rngs(),
        )
        self._make_affine(shape, scale=scale)

    def call(self, inputs: jax.Array) -> jax.Array:
        inputs = jnp.asarray(inputs)
        return in_dtypes_of(nnx.LayerNorm.__call__(self, inputs), inputs, self)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rms_scaling": False}


class RMSNormalization(Layer, nnx.RMSNorm):
    """Divides each example by the root mean square of its features.

    Built, it is an `nnx.RMSNorm`: the weight is `scale`, of the sizes of the axes. The mean square is
    computed in float32 at least.

    Args:
        axis: the axis with the features, or several.
        epsilon: added to the mean square.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError: `axis` is neither an integer nor a list of integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> RMSNormalization(epsilon=0.0)(jnp.array([[1.0, 1.0, 1.0, 1.0]]) * 4.0).tolist()
        [[1.0, 1.0, 1.0, 1.0]]

    Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467
    """

    dtype: Any = ComputeDtype(at_least="float32")  # type: ignore[assignment]

    def __init__(self, axis: Any = -1, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = _checked_axis(self, axis)
        self.epsilon = epsilon

    def build(self, input_shape: Shape) -> None:
        axes = _sorted_axes(self.axis)
        shape = feature_sizes(self, input_shape, axes)
        nnx.RMSNorm.__init__(
            self,
            math.prod(shape),
            epsilon=self.epsilon,
            dtype=self.dtype,
            param_dtype=self.variable_dtype,
            use_scale=False,
            reduction_axes=axes,
            feature_axes=axes,
            rngs=nnx.Rngs(),
        )
        self.use_scale = True
        self.scale = self.add_weight(shape, "ones", name="scale")

    def call(self, inputs: jax.Array) -> jax.Array:
        return nnx.RMSNorm.__call__(self, inputs).astype(inputs.dtype)


class UnitNormalization(Layer):
    """Divides each example by its Euclidean norm; zeros stay zeros.

    Args:
        axis: the axis that the norm is taken over, or several.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        TypeError: `axis` is neither an integer nor a list of integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> UnitNormalization()(jnp.array([[3.0, 4.0]])).round(3).tolist()
        [[0.6..., 0.8...]]
    """

    built = True
    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = _checked_axis(self, axis)

    def call(self, inputs: jax.Array) -> jax.Array:
        feature_sizes(self, inputs.shape, _sorted_axes(self.axis))
        return l2_normalize(inputs, _sorted_axes(self.axis), epsilon=1e-12)


def l2_normalize(x: jax.Array, axis: Any, *, epsilon: float) -> jax.Array:
    """Returns `x` divided by its Euclidean norm, or by `epsilon` if that is larger.

    The gradient is finite for zeros, too. It is computed in float32 at least, as `epsilon**2` has to be one.

    Args:
        x: floating.
        axis: one or several, that the norm is taken over; None for all.
        epsilon: from 1e-18.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    squares = jnp.sum(jnp.square(wide), axis=axis, keepdims=True)
    return (wide * lax.rsqrt(jnp.maximum(squares, epsilon**2))).astype(x.dtype)


def _checked_axis(layer: Layer, axis: Any) -> Any:
    is_list = isinstance(axis, list | tuple)
    if not all(isinstance(one, int) for one in (axis if is_list else (axis,))):
        raise TypeError(
            f"{type(layer).__name__}: got axis={axis!r}, expected an integer or a list of integers. Pass "
            "axis=-1 for the last axis."
        )
    return list(axis) if is_list else axis


def _sorted_axes(axis: Any) -> tuple[int, ...]:
    return tuple(sorted(axis)) if isinstance(axis, list) else (axis,)
