"""`Normalization`: brings features to mean 0 and variance 1, by given statistics or those of data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.layers.layer import Layer
from easyflax.layers.rescaling import as_plain

__all__ = ["Normalization"]

_EPSILON = 1e-7


class Normalization(Layer):
    """Returns `(inputs - mean) / sqrt(variance)`, with a mean and a variance for each feature.

    They are found by `adapt`, and are then weights that training leaves alone; or they are given.

    Args:
        axis: the axis of the features, or several; None for one mean of everything.
        mean: given with `variance`; a number, or as many as there are features.
        variance: likewise.
        invert: whether to go back, to `inputs * sqrt(variance) + mean`.
        **kwargs: see `Layer`.

    Raises:
        ValueError: only one of mean and variance is given, or their shapes do not fit.

    Examples:
        >>> import numpy as np
        >>> layer = Normalization()
        >>> layer.adapt(np.array([[1.0, 10.0], [3.0, 30.0]]))
        >>> layer(np.array([[2.0, 40.0]]))
        Array([[0., 2.]], dtype=float32)
    """

    supports_masking = True

    def __init__(
        self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        axes = () if axis is None else (axis,) if isinstance(axis, int) else axis
        self.axis = tuple(int(one) for one in axes)
        self.invert = invert
        if (mean is None) != (variance is None) or np.shape(mean) != np.shape(variance):
            raise ValueError(
                f"Normalization: got a mean of shape {_shape(mean)} and a variance of shape "
                f"{_shape(variance)}, expected both in one shape, or neither. Pass both, or call adapt(data)."
            )
        if np.ndim(mean) > len(self.axis):
            raise ValueError(
                f"Normalization: mean has shape {np.shape(mean)}, expected at most {len(self.axis)} "
                f"axes, those of axis={self.axis}. Reshape it, or pass more axes."
            )
        self.input_mean = None if mean is None else as_plain(mean)
        self.input_variance = None if variance is None else as_plain(variance)
        self._kept: tuple[tuple[int, int], ...] = ()  # the axes of the features, and their sizes
        self._rank = 0

    # -- building

    def build(self, input_shape: Any) -> None:
        """Makes the statistics.

        Raises:
            ValueError: an axis is not there, or its size is not known.
        """
        rank = len(input_shape)
        if any(not -rank <= axis < rank for axis in self.axis):
            raise ValueError(
                f"Normalization '{self.name}': axis is {self.axis}, expected axes of the input, which "
                f"has shape {tuple(input_shape)}. Pass others."
            )
        kept = sorted({axis % rank for axis in self.axis})
        if any(input_shape[axis] is None for axis in kept):
            raise ValueError(
                f"Normalization '{self.name}': the input has shape {tuple(input_shape)}, expected sizes that "
                f"are known in the axes {tuple(kept)}. Give them in ef.Input, or pass other axes."
            )
        self._rank = rank
        self._kept = tuple((axis, int(input_shape[axis])) for axis in kept)
        if self.input_mean is None:
            shape = tuple(size for _, size in self._kept)
            self.adapt_mean = self.add_weight(shape, "zeros", trainable=False, name="mean")
            self.adapt_variance = self.add_weight(shape, "ones", trainable=False, name="variance")
            self.count = self.add_weight((), "zeros", dtype="int32", trainable=False, name="count")

    @property
    def mean(self) -> jax.Array | None:
        """The mean, 1 in the axes it is taken over; None before the layer is built."""
        return self._statistic(self.input_mean, "adapt_mean")

    @property
    def variance(self) -> jax.Array | None:
        """The variance, in the shape of `mean`."""
        return self._statistic(self.input_variance, "adapt_variance")

    def _statistic(self, given: Any, weight: str) -> jax.Array | None:
        if not self.built:
            return None
        value = getattr(self, weight).get_value() if given is None else jnp.asarray(given)
        sizes = dict(self._kept)
        full = [sizes.get(axis, 1) for axis in range(self._rank)]
        missing = len(self._kept) - value.ndim  # the first ones, where fewer axes are given
        kept = {axis: size for (axis, _), size in zip(self._kept[missing:], value.shape, strict=True)}
        value = value.reshape([kept.get(axis, 1) for axis in range(self._rank)])
        return jnp.broadcast_to(value, full).astype(self.compute_dtype)

    # -- adapting

    def adapt(self, data: Any) -> None:
        """Sets the mean and the variance to those of the data, over all of it.

        Args:
            data: an array, or what NumPy makes one of; or an iterable of batches, of which a tuple's first
                entry is read.

        Raises:
            ValueError: mean and variance were given, there is no data, or its shape does not fit.
        """
        if self.input_mean is not None:
            raise ValueError(
                f"Normalization '{self.name}': adapt was called, but mean and variance were given. Make it "
                "without them to have them found."
            )
        total: _Moments | None = None
        for batch in _batches(data):
            if not self.built:
                self.build_for((jax.ShapeDtypeStruct(batch.shape, np.float32),), {})
            self._check_shape(batch.shape)
            moments = _Moments.of(batch, tuple(axis for axis, _ in self._kept))
            total = moments if total is None else total.merged(moments)
        if total is None:
            raise ValueError(
                f"Normalization '{self.name}': adapt got no batches, expected at least one. Pass data "
                "that is not empty."
            )
        self.adapt_mean.set_value(jnp.asarray(total.mean, self.variable_dtype))
        self.adapt_variance.set_value(jnp.asarray(total.variance, self.variable_dtype))

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != self._rank or any(shape[axis] != size for axis, size in self._kept):
            sizes = dict(self._kept)
            expected = tuple(sizes.get(axis) for axis in range(self._rank))
            raise ValueError(
                f"Normalization '{self.name}': adapt got data of shape {shape}, expected {expected}, "
                "with None for any size. Pass data in the shape of the input, or make a new layer."
            )

    # -- calling

    def call(self, inputs: Any) -> jax.Array:
        """Returns the normalized input, in its shape."""
        inputs = jnp.asarray(inputs).astype(self.compute_dtype)
        deviation = jnp.maximum(jnp.sqrt(self.variance), _EPSILON)  # type: ignore[arg-type]
        return self.mean + inputs * deviation if self.invert else (inputs - self.mean) / deviation

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments; what `adapt` found is no part of them, but of the weights."""
        return {**super().get_config(), "mean": self.input_mean, "variance": self.input_variance}


class _Moments(NamedTuple):
    """Mean and variance of a number of values for each feature, float64."""

    count: int
    mean: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, batch: np.ndarray, kept: tuple[int, ...]) -> _Moments:
        reduced = tuple(axis for axis in range(batch.ndim) if axis not in kept)
        mean = np.asarray(np.mean(batch, axis=reduced, dtype=np.float64))
        variance = np.asarray(np.var(batch, axis=reduced, dtype=np.float64))
        return cls(math.prod(batch.shape[axis] for axis in reduced), mean, variance)

    def merged(self, other: _Moments) -> _Moments:
        """Returns the moments of all values of both."""
        count = self.count + other.count
        share = other.count / count
        difference = other.mean - self.mean
        variance = self.variance + share * (other.variance - self.variance + (1 - share) * difference**2)
        return _Moments(count, self.mean + share * difference, variance)


def _batches(data: Any) -> Iterator[np.ndarray]:
    """Yields the batches of what `adapt` is given."""
    if hasattr(data, "__array__") or not isinstance(data, Iterable):
        yield np.asarray(data)
        return
    batches = iter(data)
    first = next(batches, None)
    if first is None:
        return
    if not hasattr(_inputs(first), "__array__"):  # a nesting of numbers
        yield np.asarray([first, *batches])
        return
    for batch in itertools.chain([first], batches):
        yield np.asarray(_inputs(batch))


def _inputs(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple) and batch else batch


def _shape(value: Any) -> Any:
    return None if value is None else np.shape(value)
