"""Batch normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.core.variables import BatchStat, reading_dtype
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.moments import affine_param, moments, normalize, positive_axes, value_of

__all__ = ["BatchNorm"]


class BatchNorm(Module):
    """Normalises each feature over the batch, and remembers running averages for inference.

    With `use_running_average=False` (the default, and what `model.train()` sets) mean and variance are those
    of the batch, and the running ones are updated: `running = momentum * running + (1 - momentum) * batch`.
    With True (`model.eval()`) the running ones are used; so they are, whatever is asked for, if the attribute
    `trainable` is set to False. No gradient passes through what is remembered.

    The parameters are `scale` and `bias`, the batch statistics `mean` and `var` (always float32; of complex
    inputs they keep the real part), all of shape `(num_features,)`.

    Args:
        num_features: size of the input's axis `axis`.
        use_running_average: see above; None requires it at each call.
        axis: the axis with the features; statistics are taken over all others.
        momentum: share of the old running average that is kept.
        epsilon: added to the variance.
        dtype: of the result; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        use_bias: whether to add a bias.
        use_scale: whether to multiply by a scale; the next layer can take its place if it is linear.
        bias_init: makes the bias, `(key, shape, dtype) -> array`.
        scale_init: makes the scale.
        axis_name: a named axis (of `vmap` or `shard_map`) over which statistics are combined; not needed
            under `jit`.
        axis_index_groups: groups of indices of that axis, such as `[[0, 1], [2, 3]]`, that are combined
            apart.
        use_fast_variance: compute `E[x^2] - E[x]^2` in one pass, which is less exact than `E[(x - E[x])^2]`.
        promote_dtype: brings `(inputs, mean, var, scale, bias)` to one dtype.
        rngs: its `params` stream gives the keys, the scale's first.
        bias_metadata: metadata for the variable `bias`.
        scale_metadata: metadata for the variable `scale`.

    Raises:
        TypeError, ValueError: `num_features` is no positive integer, `axis` no integer, or `rngs` a bare seed
            or key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.BatchNorm(2, momentum=0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 0.0], [3.0, 0.0]])).round(3).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
        >>> layer.mean[...].tolist(), layer.var[...].tolist()
        ([1.0, 0.0], [1.0, 0.5])

    Source: Ioffe and Szegedy 2015, algorithms 1 and 2, https://arxiv.org/abs/1502.03167
    """

    def __init__(
        self,
        num_features: int,
        *,
        use_running_average: bool | None = False,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: initializers.Initializer = initializers.zeros,
        scale_init: initializers.Initializer = initializers.ones,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: PromoteDtype = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
        scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        checks.check_sizes(self, num_features=num_features)
        checks.check_axis(self, axis=axis)
        checks.check_rngs(self, rngs, needed=use_scale or use_bias)
        self.mean = BatchStat(jnp.zeros((num_features,), jnp.float32))
        self.var = BatchStat(jnp.ones((num_features,), jnp.float32))
        self.scale = (
            affine_param(scale_init, num_features, param_dtype, rngs, scale_metadata) if use_scale else None
        )
        self.bias = (
            affine_param(bias_init, num_features, param_dtype, rngs, bias_metadata) if use_bias else None
        )
        self.num_features = num_features
        self.use_running_average = use_running_average
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets the mode, for `nnx.view`.

        Args:
            use_running_average: True normalises by the running averages, False by those of the batch.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns `x` normalised, of the same shape.

        Args:
            x: `(..., num_features)`, or with the features along `axis`.
            use_running_average: goes before the attribute of that name.
            mask: True where entries of `x` count for the statistics, of a shape that broadcasts to that of
                `x`; with it padding does not touch them. The running averages do not need it.

        Raises:
            ValueError: another number of features, a mask that does not broadcast, or `use_running_average`
                given nowhere.
        """
        use_running_average = self.use_running_average if use_running_average is None else use_running_average
        if vars(self).get("trainable") is False:
            use_running_average = True
        if use_running_average is None:
            raise ValueError(
                f"{checks.describe(self)}: got no use_running_average, expected True (inference) or False "
                "(training). Pass it to the constructor or to the call, or call model.train() or "
                "model.eval() first."
            )
        checks.check_features(self, x, self.mean.shape[0], argument="num_features", axis=self.axis)
        checks.check_mask(self, x, mask)
        dtype = self.dtype
        if dtype is None and reading_dtype() is not None:
            dtype = jnp.promote_types(x.dtype, self.mean.dtype)  # the statistics stay as exact as they are
        x, mean, var, scale, bias = self.promote_dtype(
            (x, self.mean[...], self.var[...], value_of(self.scale), value_of(self.bias)), dtype=dtype
        )
        feature_axes = positive_axes(self.axis, x.ndim)
        reduction_axes = tuple(axis for axis in range(x.ndim) if axis not in feature_axes)
        if not use_running_average:
            mean, var = moments(
                x,
                reduction_axes,
                dtype=self.dtype,
                axis_name=self.axis_name,
                axis_index_groups=self.axis_index_groups,
                use_fast_variance=self.use_fast_variance,
                mask=mask,
            )
            self._remember(self.mean, mean)
            self._remember(self.var, var)
        return normalize(
            x,
            mean,
            var,
            scale,
            bias,
            reduction_axes=reduction_axes,
            feature_axes=feature_axes,
            epsilon=self.epsilon,
            dtype=self.dtype,
        )

    def _remember(self, running: BatchStat[jax.Array], value: jax.Array) -> None:
        average = self.momentum * running[...] + (1 - self.momentum) * value
        if not jnp.iscomplexobj(running[...]):
            average = jnp.real(average)
        running[...] = lax.stop_gradient(average.astype(running.dtype))
