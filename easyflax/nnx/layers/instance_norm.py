"""Normalisation of each feature of each example by itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.moments import Axes, affine_param, moments, normalize, positive_axes, value_of
from easyflax.nnx.layers.normalization import check_axes

__all__ = ["InstanceNorm"]


class InstanceNorm(Module):
    """Normalises each feature of each example over the axes between the first (the batch) and the last.

    The parameters are `scale` and `bias`, of shape `(num_features,)`. It is `GroupNorm` with one feature in
    each group.

    Args:
        num_features: number of entries along `feature_axes`.
        epsilon: added to the variance.
        dtype: of the result; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        use_bias: whether to add a bias.
        use_scale: whether to multiply by a scale.
        bias_init: makes the bias, `(key, shape, dtype) -> array`.
        scale_init: makes the scale.
        feature_axes: an axis or several, the first not among them: scale and bias have an entry for each
            position along them, and mean and variance are taken over all other axes but the first.
        axis_name: a named axis (of `vmap` or `shard_map`) over which statistics are combined.
        axis_index_groups: groups of indices of that axis that are combined apart.
        use_fast_variance: compute `E[x^2] - E[x]^2` in one pass, which is less exact than `E[(x - E[x])^2]`.
        promote_dtype: brings `(inputs, scale, bias)` to one dtype.
        rngs: its `params` stream gives the keys, the scale's first.
        bias_metadata: metadata for the variable `bias`.
        scale_metadata: metadata for the variable `scale`.

    Raises:
        TypeError, ValueError: `num_features` is no positive integer, or `rngs` is a bare seed or key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.InstanceNorm(1, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[1.0], [3.0]], [[10.0], [0.0]]])).round(3)[..., 0].tolist()
        [[-1.0, 1.0], [1.0, -1.0]]

    Source: Ulyanov, Vedaldi and Lempitsky 2016, equation 3, https://arxiv.org/abs/1607.08022
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: initializers.Initializer = initializers.zeros,
        scale_init: initializers.Initializer = initializers.ones,
        feature_axes: Axes = -1,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: PromoteDtype = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
        scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        checks.check_sizes(self, num_features=num_features)
        checks.check_rngs(self, rngs, needed=use_scale or use_bias)
        self.scale = (
            affine_param(scale_init, num_features, param_dtype, rngs, scale_metadata) if use_scale else None
        )
        self.bias = (
            affine_param(bias_init, num_features, param_dtype, rngs, bias_metadata) if use_bias else None
        )
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.feature_axes = feature_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Returns `x` normalised, of the same shape.

        Args:
            x: `(batch, ..., num_features)`, or with the features along `feature_axes`.
            mask: True where entries of `x` count for the statistics, of a shape that broadcasts to that of
                `x`.

        Raises:
            ValueError: another number of features, too few axes, the first axis among the feature axes, or a
                mask that does not broadcast.
        """
        reduction_axes = self._reduction_axes(np.ndim(x))
        check_axes(self, x, mask, reduction_axes)
        x, scale, bias = self.promote_dtype((x, value_of(self.scale), value_of(self.bias)), dtype=self.dtype)
        mean, var = moments(
            x,
            reduction_axes,
            dtype=self.dtype,
            axis_name=self.axis_name,
            axis_index_groups=self.axis_index_groups,
            use_fast_variance=self.use_fast_variance,
            mask=mask,
        )
        return normalize(
            x,
            mean,
            var,
            scale,
            bias,
            reduction_axes=reduction_axes,
            feature_axes=self.feature_axes,
            epsilon=self.epsilon,
            dtype=self.dtype,
        )

    def _reduction_axes(self, rank: int) -> tuple[int, ...]:
        features = positive_axes(self.feature_axes, rank)
        if 0 in features:
            raise ValueError(
                f"{checks.describe(self)}: got feature_axes={self.feature_axes} for an input with {rank} "
                "axes, expected axes without the first, which is the batch. Pass an input with a batch "
                "axis, for example x[None], or rebuild the layer with other feature_axes."
            )
        return tuple(axis for axis in range(1, rank) if axis not in features)
