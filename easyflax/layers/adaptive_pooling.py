"""Maxima and means of as many windows as the output is to have entries, whatever the input's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.layers.arguments import check_data_format
from easyflax.layers.spatial import SpatialLayer, sizes_each_axis

__all__ = [
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
]


class _AdaptivePooling(SpatialLayer):
    """Base class of both kinds; subclasses define `reduce`."""

    built = True

    def __init__(
        self, output_size: int | Sequence[int], data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.output_size = sizes_each_axis(self, "output_size", output_size, self.rank)
        self.data_format = check_data_format(self, data_format)

    def reduce(self, windows: jax.Array, is_inside: Any, axis: int) -> jax.Array:
        """Returns the reduction of windows along an axis, over the entries that are inside of them."""
        raise NotImplementedError

    def call(self, inputs: jax.Array) -> jax.Array:
        """Returns the reduction of each window."""
        self.check_rank(jnp.shape(inputs))
        for axis, size in zip(self.spatial_axes, self.output_size, strict=True):
            indices, is_inside = _windows(inputs.shape[axis], size)
            windows = jnp.take(inputs, indices, axis=axis)  # (..., size, entries, ...)
            after = (1,) * (inputs.ndim - axis - 1)
            inputs = self.reduce(windows, is_inside.reshape(*is_inside.shape, *after), axis + 1)
        return inputs


class _AdaptiveAveragePooling(_AdaptivePooling):
    """Base class; see `AdaptiveAveragePooling2D`."""

    def reduce(self, windows: jax.Array, is_inside: Any, axis: int) -> jax.Array:
        return jnp.mean(windows, axis=axis, where=is_inside)


class _AdaptiveMaxPooling(_AdaptivePooling):
    """Base class; see `AdaptiveMaxPooling2D`."""

    def reduce(self, windows: jax.Array, is_inside: Any, axis: int) -> jax.Array:
        del is_inside  # beyond its end a window repeats its last entry
        return jnp.max(windows, axis=axis)


def _windows(length: int, count: int) -> tuple[Any, Any]:
    """Returns the indices of each window's entries, and which of these are not repeated.

    Window `i` begins at `floor(i * length / count)` and ends before `ceil((i + 1) * length / count)`.
    """
    starts = np.arange(count) * length // count
    ends = -(-np.arange(1, count + 1) * length // count)
    indices = starts[:, None] + np.arange(int(np.max(ends - starts)))
    return np.minimum(indices, ends[:, None] - 1), indices < ends[:, None]


class AdaptiveAveragePooling1D(_AdaptiveAveragePooling):
    """The means of `output_size` windows of a sequence, `(batch, steps, channels)`.

    The arguments are those of `AdaptiveAveragePooling2D`.
    """

    rank = 1


class AdaptiveAveragePooling2D(_AdaptiveAveragePooling):
    """The means of as many windows of an image as the output is to have entries.

    The windows are of almost equal size, cover the image, and may overlap by one entry.

    Args:
        output_size: of the output, an integer for all spatial axes, or one for each.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: a size is no positive integer.

    Examples:
        >>> import jax.numpy as jnp
        >>> AdaptiveAveragePooling2D((2, 1))(jnp.arange(9.0).reshape(1, 3, 3, 1)).ravel().tolist()
        [2.5, 5.5]
    """

    rank = 2


class AdaptiveAveragePooling3D(_AdaptiveAveragePooling):
    """The means of windows of a volume, `(batch, depth, height, width, channels)`.

    The arguments are those of `AdaptiveAveragePooling2D`.
    """

    rank = 3


class AdaptiveMaxPooling1D(_AdaptiveMaxPooling):
    """The maxima of `output_size` windows of a sequence, `(batch, steps, channels)`.

    The arguments are those of `AdaptiveMaxPooling2D`.
    """

    rank = 1


class AdaptiveMaxPooling2D(_AdaptiveMaxPooling):
    """The maxima of as many windows of an image as the output is to have entries.

    The windows are of almost equal size, cover the image, and may overlap by one entry.

    Args:
        output_size: of the output, an integer for all spatial axes, or one for each.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: a size is no positive integer.

    Examples:
        >>> import jax.numpy as jnp
        >>> AdaptiveMaxPooling2D((2, 1))(jnp.arange(9.0).reshape(1, 3, 3, 1)).ravel().tolist()
        [5.0, 8.0]
    """

    rank = 2


class AdaptiveMaxPooling3D(_AdaptiveMaxPooling):
    """The maxima of windows of a volume, `(batch, depth, height, width, channels)`.

    The arguments are those of `AdaptiveMaxPooling2D`.
    """

    rank = 3
