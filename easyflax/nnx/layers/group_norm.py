"""Normalisation of each example over groups of its features."""

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

__all__ = ["GroupNorm"]


class GroupNorm(Module):
    """Normalises each example over equal groups of its features, and over all axes but the first.

    The parameters are `scale` and `bias`, of shape `(num_features,)`. With one group it is `LayerNorm` over
    all axes but the first.

    Args:
        num_features: size of the last axis of the input.
        num_groups: number of groups; None when `group_size` is given.
        group_size: number of features in a group; give it or `num_groups`.
        epsilon: added to the variance.
        dtype: of the result; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        use_bias: whether to add a bias.
        use_scale: whether to multiply by a scale.
        bias_init: makes the bias, `(key, shape, dtype) -> array`.
        scale_init: makes the scale.
        reduction_axes: the axes that statistics are taken over, the last among them; by default all but the
            first.
        axis_name: a named axis (of `vmap` or `shard_map`) over which statistics are combined.
        axis_index_groups: groups of indices of that axis that are combined apart.
        use_fast_variance: compute `E[x^2] - E[x]^2` in one pass, which is less exact than `E[(x - E[x])^2]`.
        promote_dtype: brings `(inputs, scale, bias)` to one dtype.
        rngs: its `params` stream gives the keys, the scale's first.
        bias_metadata: metadata for the variable `bias`.
        scale_metadata: metadata for the variable `scale`.

    Raises:
        TypeError, ValueError: `num_features` is no positive integer, the features cannot be divided into the
            groups, both or neither of `num_groups` and `group_size` are given, or `rngs` is a bare seed or
            key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.GroupNorm(4, num_groups=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 3.0, 10.0, 0.0]])).round(3).tolist()
        [[-1.0, 1.0, 1.0, -1.0]]

    Source: Wu and He 2018, equations 1 to 3 and 7, https://arxiv.org/abs/1803.08494
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int | None = 32,
        group_size: int | None = None,
        *,
        epsilon: float = 1e-6,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: initializers.Initializer = initializers.zeros,
        scale_init: initializers.Initializer = initializers.ones,
        reduction_axes: Axes | None = None,
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
        self.feature_axis = -1
        self.num_groups, self.group_size = _groups(type(self).__name__, num_features, num_groups, group_size)
        self.scale = (
            affine_param(scale_init, num_features, param_dtype, rngs, scale_metadata) if use_scale else None
        )
        self.bias = (
            affine_param(bias_init, num_features, param_dtype, rngs, bias_metadata) if use_bias else None
        )
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.reduction_axes = reduction_axes
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Returns `x` normalised, of the same shape.

        Args:
            x: `(batch, ..., num_features)`.
            mask: True where entries of `x` count for the statistics, of a shape that broadcasts to that of
                `x`.

        Raises:
            ValueError: another number of features, reduction axes without the last, or a mask that does not
                broadcast.
        """
        checks.check_features(self, x, self.num_groups * self.group_size, argument="num_features")
        checks.check_mask(self, x, mask)
        x, scale, bias = self.promote_dtype((x, value_of(self.scale), value_of(self.bias)), dtype=self.dtype)
        axes = self._axes_before_last(x.ndim)
        grouped = (*x.shape[:-1], self.num_groups, self.group_size)
        if mask is not None:
            mask = jnp.broadcast_to(mask, x.shape).reshape(grouped)
        mean, var = moments(
            x.reshape(grouped),
            (*axes, -1),
            dtype=self.dtype,
            axis_name=self.axis_name,
            axis_index_groups=self.axis_index_groups,
            use_fast_variance=self.use_fast_variance,
            mask=mask,
        )  # (..., num_groups)
        return normalize(
            x,
            jnp.repeat(mean, self.group_size, axis=-1),
            jnp.repeat(var, self.group_size, axis=-1),
            scale,
            bias,
            reduction_axes=axes,
            feature_axes=-1,
            epsilon=self.epsilon,
            dtype=self.dtype,
        )

    def _axes_before_last(self, rank: int) -> tuple[int, ...]:
        if self.reduction_axes is None:
            return tuple(range(1, rank - 1))
        axes = positive_axes(self.reduction_axes, rank)
        if not axes or axes[-1] != rank - 1:
            raise ValueError(
                f"{checks.describe(self)}: got reduction_axes={self.reduction_axes} for an input with {rank} "
                f"axes, expected the last axis, {rank - 1}, as the highest of them. Include -1 in "
                "reduction_axes."
            )
        return axes[:-1]


def _groups(name: str, features: int, num_groups: int | None, group_size: int | None) -> tuple[int, int]:
    if (num_groups is None) == (group_size is None):
        raise ValueError(
            f"{name}: got num_groups={num_groups} and group_size={group_size}, expected exactly one of them. "
            "Pass num_groups=None together with group_size."
        )
    argument, value = ("num_groups", num_groups) if group_size is None else ("group_size", group_size)
    if not isinstance(value, (int, np.integer)) or value < 1 or features % value:
        raise ValueError(
            f"{name}: got {argument}={value} and num_features={features}, expected a positive integer that "
            f"divides num_features. Pass such a {argument}."
        )
    return (value, features // value) if group_size is None else (features // value, value)
