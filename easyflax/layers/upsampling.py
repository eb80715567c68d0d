"""Sequences, images and volumes made larger by whole factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.arguments import check_data_format
from easyflax.layers.spatial import SpatialLayer, sizes_each_axis
from easyflax.nnx.layers.checks import check_sizes, describe

__all__ = ["UpSampling1D", "UpSampling2D", "UpSampling3D"]

_INTERPOLATIONS = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")


class _UpSampling(SpatialLayer):
    """Base class: repeats each entry."""

    built = True
    size: Any

    def call(self, inputs: jax.Array) -> jax.Array:
        """Returns the larger array."""
        self.check_rank(jnp.shape(inputs))
        factors = (self.size,) if self.rank == 1 else self.size
        for axis, factor in zip(self.spatial_axes, factors, strict=True):
            inputs = jnp.repeat(inputs, factor, axis=axis)
        return inputs


class UpSampling1D(_UpSampling):
    """Repeats each step of a sequence, `(batch, steps, channels)`.

    Args:
        size: how many times.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        TypeError, ValueError: `size` is no positive integer.

    Examples:
        >>> import jax.numpy as jnp
        >>> UpSampling1D(2)(jnp.array([[[1], [5]]])).ravel().tolist()
        [1, 1, 5, 5]
    """

    rank = 1

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_sizes(self, size=size)
        self.size = size


class UpSampling2D(_UpSampling):
    """Makes an image larger by repeating its pixels, or by interpolating between them.

    Args:
        size: the factor, an integer for both spatial axes, or one for each.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        interpolation: `"nearest"`, which repeats pixels, `"bilinear"`, `"bicubic"`, `"lanczos3"` or
            `"lanczos5"`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `size` is no positive integer, or the interpolation is unknown.

    Examples:
        >>> import jax.numpy as jnp
        >>> UpSampling2D((2, 1))(jnp.arange(2).reshape(1, 1, 2, 1))[0, :, :, 0].tolist()
        [[0, 1], [0, 1]]
    """

    rank = 2

    def __init__(
        self,
        size: int | Sequence[int] = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)
        self.size = sizes_each_axis(self, "size", size, self.rank)
        self.interpolation = str(interpolation).lower()
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(
                f"{describe(self)}: got interpolation={interpolation!r}, expected one of "
                f"{', '.join(map(repr, _INTERPOLATIONS))}. Pass one of them."
            )

    def call(self, inputs: jax.Array) -> jax.Array:
        if self.interpolation == "nearest":
            return super().call(inputs)
        self.check_rank(jnp.shape(inputs))
        shape = list(inputs.shape)
        for axis, factor in zip(self.spatial_axes, self.size, strict=True):
            shape[axis] *= factor
        return jax.image.resize(inputs, shape, self.interpolation, antialias=False)


class UpSampling3D(_UpSampling):
    """Repeats the entries of a volume, `(batch, depth, height, width, channels)`.

    Args:
        size: how many times, an integer for all spatial axes, or one for each.
        data_format: `"channels_last"`, or `"channels_first"`: `(batch, channels, depth, height, width)`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `size` is no positive integer.
    """

    rank = 3

    def __init__(
        self, size: int | Sequence[int] = (2, 2, 2), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)
        self.size = sizes_each_axis(self, "size", size, self.rank)
