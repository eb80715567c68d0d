"""Normalisation of each example over its features: by mean and variance, or by the root mean square.

Both return `(x - mean) / sqrt(var + epsilon) * scale + bias`, as do the norms of the files beside this one,
which differ in the axes that mean and variance are taken over. Statistics are computed in float32 at least,
whatever the input's dtype (`moments.py`).
"""

from __future__ import annotations

import math
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
from easyflax.nnx.layers.moments import (
    Axes,
    affine_param,
    axes_tuple,
    moments,
    normalize,
    positive_axes,
    value_of,
)

__all__ = ["LayerNorm", "RMSNorm", "check_axes"]


class LayerNorm(Module):
    """Normalises each example over its own features.

    The parameters are `scale` and `bias`, of shape `(num_features,)`.

    Args:
        num_features: number of entries along `feature_axes`.
        epsilon: added to the variance.
        dtype: of the result; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        use_bias: whether to add a bias.
        use_scale: whether to multiply by a scale.
        bias_init: makes the bias, `(key, shape, dtype) -> array`.
        scale_init: makes the scale.
        reduction_axes: an axis or several: mean and variance are taken over them.
        feature_axes: an axis or several: scale and bias have an entry for each position along them.
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
        >>> layer = nnx.LayerNorm(2, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 3.0], [10.0, 0.0]])).round(3).tolist()
        [[-1.0, 1.0], [1.0, -1.0]]

    Source: Ba, Kiros and Hinton 2016, equation 3, https://arxiv.org/abs/1607.06450
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
        reduction_axes: Axes = -1,
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
        self.reduction_axes = reduction_axes
        self.feature_axes = feature_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Returns `x` normalised, of the same shape.

        Args:
            x: any shape with `num_features` entries along `feature_axes`.
            mask: True where entries of `x` count for the statistics, of a shape that broadcasts to that of
                `x`.

        Raises:
            ValueError: another number of features, too few axes, or a mask that does not broadcast.
        """
        check_axes(self, x, mask, self.reduction_axes)
        x, scale, bias = self.promote_dtype((x, value_of(self.scale), value_of(self.bias)), dtype=self.dtype)
        return _layer_norm(self, x, scale, bias, mask, use_mean=True)


class RMSNorm(Module):
    """Divides each example by the root mean square of its features, without centring.

    It returns `x / sqrt(E[x^2] + epsilon) * scale`. The parameter is `scale`, of shape `(num_features,)`.

    Args:
        num_features: number of entries along `feature_axes`.
        epsilon: added to the mean square.
        dtype: of the result; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        use_scale: whether to multiply by a scale.
        scale_init: makes the scale, `(key, shape, dtype) -> array`.
        reduction_axes: an axis or several: the mean square is taken over them.
        feature_axes: an axis or several: the scale has an entry for each position along them.
        axis_name: a named axis (of `vmap` or `shard_map`) over which statistics are combined.
        axis_index_groups: groups of indices of that axis that are combined apart.
        use_fast_variance: has no effect on a mean square, which takes one pass either way; here so that norms
            can be exchanged.
        promote_dtype: brings `(inputs, scale)` to one dtype.
        rngs: its `params` stream gives the key.
        scale_metadata: metadata for the variable `scale`.

    Raises:
        TypeError, ValueError: `num_features` is no positive integer, or `rngs` is a bare seed or key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.RMSNorm(2, rngs=nnx.Rngs(0))
        >>> [round(y, 3) for y in layer(jnp.array([1.0, 7.0])).tolist()]  # divided by 5
        [0.2, 1.4]

    Source: Zhang and Sennrich 2019, equation 4, https://arxiv.org/abs/1910.07467
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        use_scale: bool = True,
        scale_init: initializers.Initializer = initializers.ones,
        reduction_axes: Axes = -1,
        feature_axes: Axes = -1,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: PromoteDtype = promote_dtype,
        rngs: Rngs,
        scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        checks.check_sizes(self, num_features=num_features)
        checks.check_rngs(self, rngs, needed=use_scale)
        self.scale = (
            affine_param(scale_init, num_features, param_dtype, rngs, scale_metadata) if use_scale else None
        )
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_scale = use_scale
        self.reduction_axes = reduction_axes
        self.feature_axes = feature_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Returns `x` normalised, of the same shape.

        Args:
            x: any shape with `num_features` entries along `feature_axes`.
            mask: True where entries of `x` count for the statistics, of a shape that broadcasts to that of
                `x`.

        Raises:
            ValueError: another number of features, too few axes, or a mask that does not broadcast.
        """
        check_axes(self, x, mask, self.reduction_axes)
        x, scale = self.promote_dtype((x, value_of(self.scale)), dtype=self.dtype)
        return _layer_norm(self, x, scale, None, mask, use_mean=False)


def _layer_norm(
    layer: LayerNorm | RMSNorm,
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    mask: jax.Array | None,
    *,
    use_mean: bool,
) -> jax.Array:
    mean, var = moments(
        x,
        layer.reduction_axes,
        dtype=layer.dtype,
        axis_name=layer.axis_name,
        axis_index_groups=layer.axis_index_groups,
        use_mean=use_mean,
        use_fast_variance=layer.use_fast_variance,
        mask=mask,
    )
    return normalize(
        x,
        mean,
        var,
        scale,
        bias,
        reduction_axes=layer.reduction_axes,
        feature_axes=layer.feature_axes,
        epsilon=layer.epsilon,
        dtype=layer.dtype,
    )


def check_axes(layer: Any, x: Any, mask: Any, reduction_axes: Axes) -> None:
    """Checks the axes, their sizes and the mask for a layer that normalises over chosen axes.

    Args:
        layer: has `feature_axes`, `num_features`, and a `scale` and perhaps a `bias` of that size, or None.
        x: what it was called with.
        mask: what it was called with, or None.
        reduction_axes: the axes that statistics are taken over.

    Raises:
        ValueError: `x` lacks one of the axes, has another number of entries along the feature axes, or a mask
            that does not broadcast to it.
    """
    shape = np.shape(x)
    params = [p for p in (layer.scale, getattr(layer, "bias", None)) if p is not None]
    features = params[0].size if params else layer.num_features
    feature_axes = axes_tuple(layer.feature_axes)
    if len(feature_axes) == 1:
        checks.check_features(layer, x, features, argument="num_features", axis=feature_axes[0])
    for axis in (*feature_axes, *axes_tuple(reduction_axes)):
        if not -len(shape) <= axis < len(shape):
            raise ValueError(
                f"{checks.describe(layer)}: got an input of shape {shape}, which has no axis {axis}, "
                f"expected one with the axes reduction_axes={reduction_axes} and "
                f"feature_axes={layer.feature_axes}. Reshape the input, or rebuild the layer with other axes."
            )
    entries = math.prod(shape[axis] for axis in positive_axes(feature_axes, len(shape)))
    if entries != features:
        raise ValueError(
            f"{checks.describe(layer)}: got an input of shape {shape} with {entries} entries along "
            f"feature_axes={layer.feature_axes}, expected {features}. Pass inputs of that size, or rebuild "
            f"the layer with num_features={entries}."
        )
    checks.check_mask(layer, x, mask)
