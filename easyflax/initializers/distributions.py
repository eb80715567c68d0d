"""Initializers that draw from a distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

import easyflax.random as random
from easyflax.initializers.base import RandomInitializer, Shape

__all__ = [
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "LecunNormal",
    "LecunUniform",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "compute_fans",
]

Seed = int | random.SeedGenerator | None
Axes = Sequence[int] | None

_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")
# The standard deviation of a standard normal distribution that is cut at -2 and 2.
_TRUNCATED_STDDEV = 0.87962566103423978


class RandomNormal(RandomInitializer):
    """Draws from a normal distribution.

    Args:
        mean: its mean.
        stddev: its standard deviation.
        seed: see `RandomInitializer`.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Seed = None):
        super().__init__(seed)
        self.mean = mean
        self.stddev = stddev

    def draw(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        return random.normal(shape, self.mean, self.stddev, dtype, key)


class TruncatedNormal(RandomInitializer):
    """Draws from a normal distribution without what lies beyond two standard deviations from the mean.

    Args:
        mean: its mean.
        stddev: its standard deviation before the tails are cut.
        seed: see `RandomInitializer`.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Seed = None):
        super().__init__(seed)
        self.mean = mean
        self.stddev = stddev

    def draw(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        return random.truncated_normal(shape, self.mean, self.stddev, dtype, key)


class RandomUniform(RandomInitializer):
    """Draws between two values.

    Args:
        minval: the lower end.
        maxval: the upper end, left out.
        seed: see `RandomInitializer`.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Seed = None):
        super().__init__(seed)
        self.minval = minval
        self.maxval = maxval

    def draw(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        return random.uniform(shape, self.minval, self.maxval, dtype, key)


class VarianceScaling(RandomInitializer):
    """Draws with the variance `scale / n`, where n is the number of inputs, of outputs, or their mean.

    Args:
        scale: positive.
        mode: what n is: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"` (or `"normal"`), `"untruncated_normal"` or `"uniform"`.
        seed: see `RandomInitializer`.
        input_axes: the axes that count as inputs; with `output_axes`, else all but the last.
        output_axes: the axes that count as outputs.

    Raises:
        ValueError: an argument is none of these.

    Source: He et al. 2015, section 2.2, https://arxiv.org/abs/1502.01852
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ):
        super().__init__(seed)
        distribution = "truncated_normal" if distribution.lower() == "normal" else distribution.lower()
        if scale <= 0:
            raise ValueError(
                f"VarianceScaling was given scale={scale}, expected a positive number. Pass scale=1.0."
            )
        _check_choice("mode", mode, _MODES)
        _check_choice("distribution", distribution, _DISTRIBUTIONS)
        self.scale = scale
        self.mode = mode
        self.distribution = distribution
        self.input_axes = input_axes
        self.output_axes = output_axes

    def draw(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "truncated_normal":
            return random.truncated_normal(shape, 0.0, math.sqrt(variance) / _TRUNCATED_STDDEV, dtype, key)
        if self.distribution == "untruncated_normal":
            return random.normal(shape, 0.0, math.sqrt(variance), dtype, key)
        limit = math.sqrt(3 * variance)
        return random.uniform(shape, -limit, limit, dtype, key)


def _check_choice(argument: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"VarianceScaling was given {argument}={value!r}, expected one of "
            f"{', '.join(map(repr, choices))}. Pass one of these."
        )


def compute_fans(shape: Shape, input_axes: Axes = None, output_axes: Axes = None) -> tuple[int, int]:
    """Returns how many inputs and outputs one weight of a kernel stands between.

    Args:
        shape: `(inputs, outputs)`, or of a convolution `(*window, inputs, outputs)`.
        input_axes: the axes that count as inputs, where the order is another; with `output_axes`.
        output_axes: the axes that count as outputs.

    Examples:
        >>> compute_fans((3, 3, 4, 8))
        (36, 72)
    """
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        units = int(shape[0]) if shape else 1
        return units, units
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


class _Scaled(VarianceScaling):
    """A `VarianceScaling` whose scale, mode and distribution are fixed."""

    _fixed: tuple[float, str, str]

    def __init__(self, seed: Seed = None, input_axes: Axes = None, output_axes: Axes = None):
        super().__init__(*self._fixed, seed, input_axes, output_axes)


class GlorotUniform(_Scaled):
    """Draws between -l and l, where `l = sqrt(6 / (fan_in + fan_out))`.

    Source: Glorot & Bengio 2010, equation 16, https://proceedings.mlr.press/v9/glorot10a.html
    """

    _fixed = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Scaled):
    """Draws from a truncated normal distribution of variance `2 / (fan_in + fan_out)`.

    Source: Glorot & Bengio 2010, equation 12, https://proceedings.mlr.press/v9/glorot10a.html
    """

    _fixed = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Scaled):
    """Draws between -l and l, where `l = sqrt(6 / fan_in)`.

    Source: He et al. 2015, equation 10, https://arxiv.org/abs/1502.01852
    """

    _fixed = (2.0, "fan_in", "uniform")


class HeNormal(_Scaled):
    """Draws from a truncated normal distribution of variance `2 / fan_in`.

    Source: He et al. 2015, equation 10, https://arxiv.org/abs/1502.01852
    """

    _fixed = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Scaled):
    """Draws between -l and l, where `l = sqrt(3 / fan_in)`.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515
    """

    _fixed = (1.0, "fan_in", "uniform")


class LecunNormal(_Scaled):
    """Draws from a truncated normal distribution of variance `1 / fan_in`.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515
    """

    _fixed = (1.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """Fills with a random orthogonal matrix; further axes are taken together with the first.

    Args:
        gain: what the matrix is multiplied by.
        seed: see `RandomInitializer`.

    Source: Saxe et al. 2014, https://arxiv.org/abs/1312.6120
    """

    def __init__(self, gain: float = 1.0, seed: Seed = None):
        super().__init__(seed)
        self.gain = gain

    def draw(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        if len(shape) < 2:
            raise ValueError(
                f"Orthogonal was asked for a variable of shape {tuple(shape)}, expected two axes or more. "
                "Use another initializer for it, such as 'zeros'."
            )
        columns, rows = shape[-1], math.prod(shape[:-1])
        tall = max(rows, columns), min(rows, columns)
        draws = random.normal(tall, dtype="float32", seed=key)
        linalg = np.linalg if isinstance(draws, np.ndarray) else jnp.linalg
        matrix, triangle = linalg.qr(draws)
        matrix = matrix * linalg.diagonal(triangle) / abs(linalg.diagonal(triangle))  # makes it unique
        return jnp.asarray(self.gain * (matrix if rows >= columns else matrix.T).reshape(shape), dtype)
