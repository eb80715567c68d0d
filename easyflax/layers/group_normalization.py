"""`GroupNormalization`: an `nnx.GroupNorm` under Keras's arguments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax.layers.affine import AffineLayer, feature_sizes, in_dtypes_of
from easyflax.layers.dtypes import ComputeDtype
from easyflax.layers.layer import Shape
from easyflax.nnx.layers import checks

__all__ = ["GroupNormalization"]


class GroupNormalization(AffineLayer, nnx.GroupNorm):
    """Normalises each example over groups of its features, and over all axes but the first.

    Built, it is an `nnx.GroupNorm`: the weights are `gamma` and `beta`, `(features,)`, also known as `scale`
    and `bias`. Statistics are computed in float32 at least.

    Args:
        groups: how many; -1 for as many as there are features, which is instance normalisation.
        axis: the axis with the features.
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
        TypeError: `axis` is no integer.
        ValueError: `groups` is neither a positive integer nor -1; when built, the features cannot be divided
            into the groups.

    Examples:
        >>> import jax.numpy as jnp
        >>> GroupNormalization(2, epsilon=0.0)(jnp.array([[1.0, 3.0, 10.0, 0.0]])).tolist()
        [[-1.0, 1.0, 1.0, -1.0]]

    Source: Wu and He 2018, https://arxiv.org/abs/1803.08494
    """

    autocast = False  # as in Keras: what comes in float32 is normalised so, under a mixed policy too
    dtype: Any = ComputeDtype(at_least="float32")  # type: ignore[assignment]

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
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
        super().__init__(**kwargs)
        if not isinstance(groups, int) or (groups < 1 and groups != -1):
            raise ValueError(
                f"GroupNormalization: got groups={groups!r}, expected a positive integer, or -1 for as many "
                "groups as features. Pass for example groups=8."
            )
        checks.check_axis(self, axis=axis)
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
        self.groups = groups
        self.axis = axis
        self.epsilon = epsilon

    def build(self, input_shape: Shape) -> None:
        if self.axis in (0, -len(input_shape)):
            raise ValueError(
                f"{checks.describe(self)}: got axis={self.axis} for an input of shape {tuple(input_shape)}, "
                "expected another axis than the first, that of the batch. Pass axis=-1 for the last."
            )
        shape = feature_sizes(self, input_shape, (self.axis,))
        if shape[0] % self.groups:  # -1 divides all
            raise ValueError(
                f"{checks.describe(self)}: got an input of shape {tuple(input_shape)}, whose {shape[0]} "
                f"features cannot be divided into groups={self.groups}, expected a multiple. Pass groups= "
                f"that divides {shape[0]}."
            )
        scale = self.use_scale
        nnx.GroupNorm.__init__(
            self,
            shape[0],
            num_groups=shape[0] if self.groups == -1 else self.groups,
            epsilon=self.epsilon,
            dtype=self.dtype,
            param_dtype=self.variable_dtype,
            use_bias=False,
            use_scale=False,
            use_fast_variance=False,
            rngs=nnx.Rngs(),
        )
        self._make_affine(shape, scale=scale)

    def call(self, inputs: jax.Array) -> jax.Array:
        inputs = jnp.asarray(inputs)
        with_features_last = jnp.moveaxis(inputs, self.axis, -1)
        outputs = nnx.GroupNorm.__call__(self, with_features_last)
        return in_dtypes_of(jnp.moveaxis(outputs, -1, self.axis), inputs, self)
