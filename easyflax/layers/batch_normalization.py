"""`BatchNormalization`: an `nnx.BatchNorm` under Keras's arguments, with renormalisation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import easyflax.nnx as nnx
from easyflax import initializers, random
from easyflax.layers.affine import AffineLayer, feature_sizes
from easyflax.layers.dtypes import ComputeDtype
from easyflax.layers.layer import Shape
from easyflax.nnx.layers import checks
from easyflax.nnx.layers.moments import moments

__all__ = ["BatchNormalization"]


class BatchNormalization(AffineLayer, nnx.BatchNorm):
    """Normalises each feature over the batch in training, and by running averages in inference.

    In training mean and variance are those of the batch, and the running averages are updated:
    `moving = moving * momentum + batch * (1 - momentum)`. A layer with `trainable = False` is in inference
    whatever it is called with. Statistics are computed in float32 at least.

    Built, it is an `nnx.BatchNorm`: the weights are `gamma`, `beta`, `moving_mean` and `moving_variance`,
    `(features,)`, also known as `scale`, `bias`, `mean` and `var`.

    Args:
        axis: the axis with the features; statistics are taken over all others.
        momentum: share of the old running average that is kept.
        epsilon: added to the variance.
        center: whether to add `beta`.
        scale: whether to multiply by `gamma`.
        beta_initializer: see `easyflax.initializers`.
        gamma_initializer: likewise.
        moving_mean_initializer: likewise.
        moving_variance_initializer: likewise.
        beta_regularizer: see `easyflax.regularizers`.
        gamma_regularizer: likewise.
        beta_constraint: see `easyflax.constraints`.
        gamma_constraint: likewise.
        renorm: whether batches are normalised nearly as in inference, by running averages in training too,
            through which no gradient passes.
        renorm_clipping: bounds for the corrections that this takes: `rmax` and `rmin` for the ratio of the
            standard deviations, `dmax` for the difference of the means.
        renorm_momentum: as `momentum`, for the averages that are used in training.
        synchronized: whether the statistics are those of the whole batch where it is divided among devices.
            They are with either value: what is compiled is a program on the whole batch.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError: `axis` is no integer.
        ValueError: `renorm_clipping` has an unknown key, or bounds that exclude each other.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = BatchNormalization(momentum=0.5, epsilon=0.0)
        >>> x = jnp.array([[1.0], [3.0]])
        >>> layer(x).tolist(), layer(x, training=True).tolist()
        ([[1.0], [3.0]], [[-1.0], [1.0]])
        >>> layer.moving_mean[...].tolist()
        [1.0]

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, and for `renorm` Ioffe 2017,
    https://arxiv.org/abs/1702.03275
    """

    dtype: Any = ComputeDtype(at_least="float32")  # type: ignore[assignment]
    use_running_average: bool | None = True  # until train() sets another mode

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
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
        checks.check_axis(self, axis=axis)
        self.axis = int(axis)
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.renorm = renorm
        self.renorm_clipping = _checked_clipping(renorm_clipping) if renorm else renorm_clipping
        self.renorm_momentum = renorm_momentum
        self.synchronized = synchronized

    def build(self, input_shape: Shape) -> None:
        shape = feature_sizes(self, input_shape, (self.axis,))
        scale = self.use_scale
        nnx.BatchNorm.__init__(
            self,
            shape[0],
            use_running_average=self.use_running_average,
            axis=self.axis,
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=self.dtype,
            param_dtype=self.variable_dtype,
            use_bias=False,
            use_scale=False,
            use_fast_variance=False,
            rngs=nnx.Rngs(),
        )
        self._make_affine(shape, scale=scale)
        self.mean = self._statistic(self.moving_mean_initializer, name="moving_mean")
        self.var = self._statistic(self.moving_variance_initializer, name="moving_variance")
        if self.renorm:
            self.moving_stddev = self._statistic(self.moving_variance_initializer, jnp.sqrt)
            self.renorm_mean = self._statistic(self.moving_mean_initializer)
            self.renorm_stddev = self._statistic(self.moving_variance_initializer, jnp.sqrt)

    def _statistic(
        self, initializer: Any, function: Any = jnp.asarray, **metadata: Any
    ) -> nnx.BatchStat[Any]:
        make = initializers.as_init(initializer)
        value = function(make(random.next_key(), (self.num_features,), self.variable_dtype))
        return nnx.BatchStat(value, **metadata)

    def call(self, inputs: jax.Array, training: bool | None = None, mask: Any = None) -> jax.Array:
        """Returns `inputs` normalised.

        Args:
            inputs: `(..., features)`, or with the features along `axis`.
            training: see the class.
            mask: `(...)`, without the last axis of `inputs`; True where entries count for the statistics.

        Raises:
            ValueError: another number of features, or a mask of another shape.
        """
        if mask is not None:
            mask = self._mask_of_entries(mask, inputs)
        if training and self.trainable and self.renorm:
            outputs = self._renormalized(inputs, mask)
        else:
            outputs = nnx.BatchNorm.__call__(self, inputs, use_running_average=not training, mask=mask)
        return outputs.astype(self.compute_dtype)

    def _is_in_training(self) -> bool:
        return not self.use_running_average

    def _mask_of_entries(self, mask: Any, inputs: jax.Array) -> jax.Array:
        if jnp.shape(mask) != inputs.shape[:-1]:
            raise ValueError(
                f"{checks.describe(self)}: got a mask of shape {jnp.shape(mask)}, expected "
                f"{inputs.shape[:-1]}, the shape of the input, {inputs.shape}, without its last axis. Pass "
                "one entry for each position."
            )
        counts = jnp.asarray(mask, bool)[..., None]
        return counts | ~jnp.any(counts)  # where nothing counts, a mean over nothing would be NaN

    def _renormalized(self, inputs: jax.Array, mask: Any) -> jax.Array:
        """Returns inputs normalised by the batch, and then moved to where the running averages would have had
        them; updates all averages."""
        checks.check_features(self, inputs, self.num_features, argument="num_features", axis=self.axis)
        x = jnp.moveaxis(inputs.astype(self.dtype), self.axis, -1)
        if mask is not None:
            mask = jnp.moveaxis(jnp.broadcast_to(mask, inputs.shape), self.axis, -1)
        mean, var = moments(x, tuple(range(x.ndim - 1)), use_fast_variance=False, mask=mask)
        stddev = jnp.sqrt(var + self.epsilon)
        ratio, shift = self._corrections(mean, stddev)
        y = (x - mean) / stddev * ratio + shift
        for parameter, combine in ((self.scale, jnp.multiply), (self.bias, jnp.add)):
            if parameter is not None:
                y = combine(y, parameter[...].astype(y.dtype))
        self._remember_renorm(mean, stddev)
        return jnp.moveaxis(y, -1, self.axis)

    def _corrections(self, mean: jax.Array, stddev: jax.Array) -> tuple[jax.Array, jax.Array]:
        clipping = self.renorm_clipping
        least = jnp.sqrt(jnp.asarray(self.epsilon, stddev.dtype))  # early averages may be near zero
        running = jnp.maximum(self.renorm_stddev[...].astype(stddev.dtype), least)
        ratio = jnp.clip(stddev / running, clipping.get("rmin"), clipping.get("rmax"))
        shift = (mean - self.renorm_mean[...]) / running
        if (dmax := clipping.get("dmax")) is not None:
            shift = jnp.clip(shift, -dmax, dmax)
        return lax.stop_gradient(ratio), lax.stop_gradient(shift)

    def _remember_renorm(self, mean: jax.Array, stddev: jax.Array) -> None:
        mean, stddev = lax.stop_gradient((mean, stddev))
        new_stddev = _average(self.moving_stddev, stddev, self.momentum)
        for running, value in (
            (self.renorm_mean, _average(self.renorm_mean, mean, self.renorm_momentum)),
            (self.renorm_stddev, _average(self.renorm_stddev, stddev, self.renorm_momentum)),
            (self.mean, _average(self.mean, mean, self.momentum)),
            (self.moving_stddev, new_stddev),
            (self.var, jnp.maximum(jnp.square(new_stddev) - self.epsilon, 0.0)),
        ):
            running[...] = value.astype(running.dtype)

    @property
    def moving_mean(self) -> nnx.BatchStat[Any] | None:
        """The running average of the means; None before the layer is built."""
        return vars(self).get("mean")

    @property
    def moving_variance(self) -> nnx.BatchStat[Any] | None:
        """The running average of the variances; None before the layer is built."""
        return vars(self).get("var")


def _average(running: nnx.BatchStat[Any], value: jax.Array, momentum: float) -> jax.Array:
    return running[...].astype(value.dtype) * momentum + value * (1.0 - momentum)


def _checked_clipping(clipping: Any) -> dict[str, float]:
    clipping = dict(clipping or {})
    known = ("rmax", "rmin", "dmax")
    if unknown := sorted(set(clipping) - set(known)):
        raise ValueError(
            f"BatchNormalization: renorm_clipping has the key {unknown[0]!r}, expected {', '.join(known)}. "
            "Check its spelling."
        )
    rmax, rmin, dmax = map(clipping.get, known)
    if (rmax is not None and rmin is not None and rmax < rmin) or (dmax is not None and dmax < 0):
        raise ValueError(
            f"BatchNormalization: renorm_clipping is {clipping}, expected rmin <= rmax and dmax >= 0. Pass "
            "bounds that leave something between them."
        )
    return clipping
