"""What normalisation layers of Keras's have in common: a gain `gamma` and an offset `beta`.

Built, such a layer is a normalisation layer of `easyflax.nnx`, whose names for these are `scale` and `bias`;
both pairs of names give the same variables.
"""

from __future__ import annotations

from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax import constraints, initializers, regularizers
from easyflax.layers.layer import Layer, Shape
from easyflax.nnx.layers import checks

__all__ = ["AffineLayer", "feature_sizes", "in_dtypes_of"]


class AffineLayer(Layer):
    """Base class of layers that end with `y * gamma + beta`."""

    supports_masking = True
    scale: nnx.Param[Any] | None
    bias: nnx.Param[Any] | None

    def _set_affine(
        self,
        *,
        center: bool,
        scale: bool,
        beta_initializer: Any,
        gamma_initializer: Any,
        beta_regularizer: Any,
        gamma_regularizer: Any,
        beta_constraint: Any,
        gamma_constraint: Any,
    ) -> None:
        self.center = center
        self.use_scale = scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    def _make_affine(self, shape: tuple[int, ...], *, scale: bool) -> None:
        """Makes `gamma` if `scale`, and `beta` if the layer centres; None stands for what is left out."""
        self.use_scale, self.use_bias = scale, self.center
        if scale:
            self.scale = self.add_weight(
                shape,
                self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                autocast=False,
                name="gamma",
            )
        if self.center:
            self.bias = self.add_weight(
                shape,
                self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                autocast=False,
                name="beta",
            )

    @property
    def gamma(self) -> nnx.Param[Any] | None:
        """The gain; None without one, and before the layer is built."""
        return vars(self).get("scale")

    @property
    def beta(self) -> nnx.Param[Any] | None:
        """The offset; None without one, and before the layer is built."""
        return vars(self).get("bias")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.use_scale}


def feature_sizes(layer: Layer, input_shape: Shape, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the sizes of the axes of an input that a layer has weights for.

    Raises:
        ValueError: the input has no such axis, or its size is free.
    """
    rank = len(input_shape)
    for axis in axes:
        if not -rank <= axis < rank:
            raise ValueError(
                f"{checks.describe(layer)}: got an input of shape {tuple(input_shape)}, which has no axis "
                f"{axis}, expected one with axis={list(axes) if len(axes) > 1 else axis}. Reshape the input, "
                "or pass another axis to the layer."
            )
    sizes = tuple(input_shape[axis] for axis in axes)
    if None in sizes:
        raise ValueError(
            f"{checks.describe(layer)}: got an input of shape {tuple(input_shape)}, expected a known size of "
            f"axis {axes[sizes.index(None)]}, which the weights depend on. State it, for example "
            "ef.Input((None, 16))."
        )
    return tuple(size for size in sizes if size is not None)


def in_dtypes_of(outputs: jax.Array, inputs: Any, layer: Layer) -> jax.Array:
    """Returns the result of a computation in float32 or wider as Keras does: rounded as the inputs are, then
    in the layer's dtype."""
    return outputs.astype(inputs.dtype).astype(layer.compute_dtype)
