"""Maxima and means over all of a sequence, an image or a volume."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.arguments import check_data_format
from easyflax.layers.spatial import SpatialLayer

__all__ = [
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
]


class _GlobalPooling(SpatialLayer):
    """Base class of both kinds."""

    built = True

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)
        self.keepdims = keepdims


class _GlobalMaxPooling(_GlobalPooling):
    """Base class; see `GlobalMaxPooling2D`."""

    def call(self, inputs: jax.Array) -> jax.Array:
        """Returns the maximum over all spatial axes."""
        self.check_rank(jnp.shape(inputs))
        return jnp.max(inputs, axis=self.spatial_axes, keepdims=self.keepdims)


class _GlobalAveragePooling(_GlobalPooling):
    """Base class; see `GlobalAveragePooling2D`."""

    def call(self, inputs: jax.Array) -> jax.Array:
        """Returns the mean over all spatial axes."""
        self.check_rank(jnp.shape(inputs))
        return jnp.mean(inputs, axis=self.spatial_axes, keepdims=self.keepdims)


class GlobalAveragePooling1D(_GlobalAveragePooling):
    """The mean of each channel over a sequence; where there is a mask, over the steps that it leaves.

    Args:
        data_format: `"channels_last"`, inputs are `(batch, steps, channels)`; or `"channels_first"`:
            `(batch, channels, steps)`.
        keepdims: whether the axis of the steps stays, with size 1.
        **kwargs: `name`, `dtype`, see `Layer`.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[[1.0], [3.0], [8.0]]])
        >>> GlobalAveragePooling1D()(x).tolist(), GlobalAveragePooling1D()(x, jnp.array([[1, 1, 0]])).tolist()
        ([[4.0]], [[2.0]])
    """

    rank = 1
    supports_masking = True

    def call(self, inputs: jax.Array, mask: Any = None) -> jax.Array:
        """Returns the mean over the steps.

        Args:
            inputs: see the class.
            mask: `(batch, steps)`, true for the steps that count; at least one in each row.
        """
        if mask is None:
            return super().call(inputs)
        self.check_rank(jnp.shape(inputs))
        (steps,) = self.spatial_axes
        counts = jnp.expand_dims(jnp.asarray(mask).astype(bool), self.channel_axis)
        total = jnp.sum(jnp.where(counts, inputs, 0), axis=steps, keepdims=self.keepdims)
        return total / jnp.sum(counts, axis=steps, keepdims=self.keepdims, dtype=inputs.dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns None: no steps are left."""
        del inputs, mask


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """The mean of each channel over an image.

    Args:
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        keepdims: whether the spatial axes stay, with size 1.
        **kwargs: `name`, `dtype`, see `Layer`.

    Examples:
        >>> import jax.numpy as jnp
        >>> GlobalAveragePooling2D()(jnp.ones((2, 4, 4, 3))).shape
        (2, 3)

    Source: Lin et al. 2013, section 3.2, https://arxiv.org/abs/1312.4400
    """

    rank = 2


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """The mean of each channel over a volume, `(batch, depth, height, width, channels)`.

    The arguments are those of `GlobalAveragePooling2D`.
    """

    rank = 3


class GlobalMaxPooling1D(_GlobalMaxPooling):
    """The maximum of each channel over a sequence, `(batch, steps, channels)`.

    The arguments are those of `GlobalMaxPooling2D`.
    """

    rank = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """The maximum of each channel over an image.

    Args:
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        keepdims: whether the spatial axes stay, with size 1.
        **kwargs: `name`, `dtype`, see `Layer`.

    Examples:
        >>> import jax.numpy as jnp
        >>> GlobalMaxPooling2D(keepdims=True)(jnp.ones((2, 4, 4, 3))).shape
        (2, 1, 1, 3)
    """

    rank = 2


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """The maximum of each channel over a volume, `(batch, depth, height, width, channels)`.

    The arguments are those of `GlobalMaxPooling2D`.
    """

    rank = 3


GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
