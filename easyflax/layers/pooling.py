"""Maxima and means of windows that slide over sequences, images and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.arguments import check_data_format
from easyflax.layers.spatial import SpatialLayer, known_padding, sizes_each_axis
from easyflax.nnx.layers.checks import describe
from easyflax.nnx.layers.pooling import avg_pool, max_pool

__all__ = [
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
]


class _Pooling(SpatialLayer):
    """Base class of both kinds; subclasses define `pool`."""

    built = True

    def _set_options(self, pool_size: Any, strides: Any, padding: Any, data_format: Any) -> None:
        strides = pool_size if strides is None else strides
        self.pool_size = sizes_each_axis(self, "pool_size", pool_size, self.rank)
        self.strides = sizes_each_axis(self, "strides", strides, self.rank)
        self.padding = known_padding(self, padding)
        self.data_format = check_data_format(self, data_format)

    def pool(self, inputs: jax.Array) -> jax.Array:
        """Returns the reduction of each window of inputs with channels last."""
        raise NotImplementedError

    def call(self, inputs: jax.Array) -> jax.Array:
        """Returns the reduction of each window."""
        self.check_rank(jnp.shape(inputs))
        self._check_window_fits_in(jnp.shape(inputs))
        return self.as_given(self.pool(self.channels_last(inputs)))

    def _check_window_fits_in(self, shape: Sequence[int]) -> None:
        for axis, size in zip(self.spatial_axes, self.pool_size, strict=True):
            if self.padding == "valid" and shape[axis] < size:
                raise ValueError(
                    f"{describe(self)}: got an input of shape {tuple(shape)} with size {shape[axis]} of axis "
                    f"{axis}, expected at least {size}, so that a window of {size} fits in. Pass larger "
                    "inputs, a smaller pool_size, or padding='same'."
                )


class _MaxPooling(_Pooling):
    """Base class; see `MaxPooling2D`."""

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self._set_options(pool_size, strides, padding, data_format)

    def pool(self, inputs: jax.Array) -> jax.Array:
        return max_pool(inputs, self.pool_size, self.strides, self.padding.upper())


class _AveragePooling(_Pooling):
    """Base class; see `AveragePooling2D`."""

    def __init__(
        self,
        pool_size: int | Sequence[int],
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self._set_options(pool_size, strides, padding, data_format)

    def pool(self, inputs: jax.Array) -> jax.Array:
        is_valid = self.padding == "valid"
        means = avg_pool(
            inputs, self.pool_size, self.strides, self.padding.upper(), count_include_pad=is_valid
        )
        return means.astype(inputs.dtype) if jnp.issubdtype(inputs.dtype, jnp.floating) else means


class MaxPooling1D(_MaxPooling):
    """The maximum of each window of a sequence.

    Inputs are `(batch, steps, channels)`. The arguments are those of `MaxPooling2D`.

    Examples:
        >>> import jax.numpy as jnp
        >>> MaxPooling1D()(jnp.array([[[1.0], [3.0], [2.0], [0.0]]])).ravel().tolist()
        [3.0, 2.0]
    """

    rank = 1


class MaxPooling2D(_MaxPooling):
    """The maximum of each window of an image.

    Args:
        pool_size: the window's size, an integer for all spatial axes, or one for each.
        strides: likewise, how far the window moves; `pool_size` by default.
        padding: `"valid"`, or `"same"`: windows reach over the borders, for outputs of the input's size
            divided by the strides.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        name: see `Layer`, as for the other arguments.

    Raises:
        ValueError: a size is no positive integer, the padding is unknown, or the window does not fit in.

    Examples:
        >>> import jax.numpy as jnp
        >>> MaxPooling2D()(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """

    rank = 2


class MaxPooling3D(_MaxPooling):
    """The maximum of each window of a volume.

    Inputs are `(batch, depth, height, width, channels)`. The arguments are those of `MaxPooling2D`.
    """

    rank = 3


class AveragePooling1D(_AveragePooling):
    """The mean of each window of a sequence.

    Inputs are `(batch, steps, channels)`. The arguments are those of `AveragePooling2D`.

    Examples:
        >>> import jax.numpy as jnp
        >>> AveragePooling1D(2)(jnp.array([[[1.0], [3.0], [2.0], [0.0]]])).ravel().tolist()
        [2.0, 1.0]
    """

    rank = 1


class AveragePooling2D(_AveragePooling):
    """The mean of each window of an image.

    Args:
        pool_size: the window's size, an integer for all spatial axes, or one for each.
        strides: likewise, how far the window moves; `pool_size` by default.
        padding: `"valid"`, or `"same"`: windows reach over the borders, for outputs of the input's size
            divided by the strides; the mean is over what lies inside.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        name: see `Layer`, as for the other arguments.

    Raises:
        ValueError: a size is no positive integer, the padding is unknown, or the window does not fit in.

    Examples:
        >>> import jax.numpy as jnp
        >>> AveragePooling2D(2)(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """

    rank = 2


class AveragePooling3D(_AveragePooling):
    """The mean of each window of a volume.

    Inputs are `(batch, depth, height, width, channels)`. The arguments are those of `AveragePooling2D`.
    """

    rank = 3


MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
MaxPool3D = MaxPooling3D
AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
AvgPool3D = AveragePooling3D
