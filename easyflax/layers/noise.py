"""Noise in training: multiplied, added, and dropout for networks that normalise themselves."""

from __future__ import annotations

import math
from typing import Any

import jax

from easyflax import random
from easyflax.layers.arguments import check_share
from easyflax.layers.dropout import check_noise_shape, full_noise_shape
from easyflax.layers.layer import Layer

__all__ = ["AlphaDropout", "GaussianDropout", "GaussianNoise"]

# What SELU tends to for very negative inputs: -scale * alpha, see the appendix of the source below.
_SATURATION = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946


class GaussianNoise(Layer):
    """Adds normal noise of mean 0 in training.

    Args:
        stddev: its standard deviation, from 0 to 1.
        seed: an integer; by default drawn from the global seed.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `stddev` is outside `[0, 1]`.
    """

    built = True
    supports_masking = True

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stddev = check_share(self, stddev=stddev)
        self.seed = seed
        if stddev > 0:
            self.seed_generator = random.SeedGenerator(seed)

    def call(self, inputs: jax.Array, training: bool | None = False) -> jax.Array:
        if not training or self.stddev == 0:
            return inputs
        return inputs + random.normal(
            inputs.shape, 0.0, self.stddev, dtype=self.compute_dtype, seed=self.seed_generator
        )


class GaussianDropout(Layer):
    """Multiplies by normal noise of mean 1 in training, with the variance that `Dropout` of this rate has.

    Args:
        rate: from 0 to below 1; the standard deviation is `sqrt(rate / (1 - rate))`.
        seed: an integer; by default drawn from the global seed.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `rate` is outside `[0, 1)`.

    Source: Srivastava et al. 2014, section 10, https://jmlr.org/papers/v15/srivastava14a.html
    """

    built = True
    supports_masking = True

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = check_share(self, rate=rate, below_one=True)
        self.seed = seed
        if rate > 0:
            self.seed_generator = random.SeedGenerator(seed)

    def call(self, inputs: jax.Array, training: bool | None = False) -> jax.Array:
        if not training or self.rate == 0:
            return inputs
        stddev = math.sqrt(self.rate / (1.0 - self.rate))
        return inputs * random.normal(
            inputs.shape, 1.0, stddev, dtype=self.compute_dtype, seed=self.seed_generator
        )


class AlphaDropout(Layer):
    """Dropout that keeps mean and variance of inputs that have mean 0 and variance 1, for use with SELU.

    A random share of the entries is set to the value that SELU saturates at, and the whole is scaled and
    shifted.

    Args:
        rate: the share, from 0 to below 1.
        noise_shape: as of `Dropout`.
        seed: an integer; by default drawn from the global seed.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        TypeError, ValueError: `rate` is outside `[0, 1)`, or `noise_shape` holds something else than positive
            integers and None.

    Source: Klambauer et al. 2017, section 2, https://arxiv.org/abs/1706.02515
    """

    built = True
    supports_masking = True

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = check_share(self, rate=rate, below_one=True)
        self.noise_shape = check_noise_shape(self, noise_shape)
        self.seed = seed
        if rate > 0:
            self.seed_generator = random.SeedGenerator(seed)

    def call(self, inputs: jax.Array, training: bool | None = False) -> jax.Array:
        if not training or self.rate == 0:
            return inputs
        shape = full_noise_shape(self, self.noise_shape, inputs.shape)
        kept = (random.uniform(shape, seed=self.seed_generator) >= self.rate).astype(inputs.dtype)
        factor = ((1 - self.rate) * (1 + self.rate * _SATURATION**2)) ** -0.5
        dropped = inputs * kept + _SATURATION * (1 - kept)
        return factor * dropped - factor * _SATURATION * self.rate
