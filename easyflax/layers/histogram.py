"""Layers that spread the values of images over their range: `AutoContrast` and `Equalization`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.image_layer import DataFormat, ImageLayer, Shape, pair_of_values, rescale_values

__all__ = ["AutoContrast", "Equalization"]

_BYTE = (0.0, 255.0)


class AutoContrast(ImageLayer):
    """Stretches the values of each image and channel over the whole range, in training and in inference.

    Args:
        value_range: the lowest and the highest value of a pixel.
        **kwargs: see `ImageLayer`.

    Raises:
        ValueError: the range is not two numbers.
    """

    def __init__(self, value_range: Any = (0, 255), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value_range = pair_of_values(self, value_range)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:  # noqa: ARG002
        values = rescale_values(images, self.value_range, _BYTE)
        low = jnp.min(values, axis=(1, 2), keepdims=True)
        spread = jnp.max(values, axis=(1, 2), keepdims=True) - low
        is_flat = spread == 0
        scale = 255.0 / jnp.where(is_flat, 1.0, spread)
        stretched = jnp.clip((values - low) * scale, *_BYTE)
        return jnp.where(is_flat, images, rescale_values(stretched, _BYTE, self.value_range))


class Equalization(ImageLayer):
    """Maps the values of each channel so that all become about equally frequent, in training.

    As in Keras, the images of a batch share one histogram, and inference leaves them as they are.

    Args:
        value_range: the lowest and the highest value of a pixel.
        bins: of the histogram.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds.
    """

    deterministic: bool = False  # until eval() is called

    def __init__(
        self,
        value_range: Any = (0, 255),
        bins: int = 256,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        if not isinstance(bins, int) or bins < 1:
            raise ValueError(
                f"Equalization: bins is {bins!r}, expected a positive integer. Leave it out for 256."
            )
        self.value_range = pair_of_values(self, value_range)
        self.bins = bins

    def draw(self, shape: Shape, training: bool) -> Any:  # noqa: ARG002
        return () if training else None

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:  # noqa: ARG002
        values = rescale_values(images, self.value_range, _BYTE)
        equalized = jax.vmap(self._equalized, in_axes=-1, out_axes=-1)(values)
        return rescale_values(equalized, _BYTE, self.value_range).astype(images.dtype)

    def _equalized(self, channel: jax.Array) -> jax.Array:
        """Maps values between 0 and 255 by their cumulative distribution, unless all are in one bin."""
        last = self.bins - 1
        in_bin = jnp.clip((channel * last / 255.0).astype(jnp.int32), 0, last)
        counts = jnp.zeros(self.bins, jnp.int32).at[in_bin.reshape(-1)].add(1)
        below = jnp.cumsum(counts)
        first = below[jnp.argmax(below > 0)]
        rest = below[-1] - first
        table = jnp.round((below - first) * 255 / jnp.where(rest == 0, 1, rest))
        indices = jnp.clip(channel / 255.0 * last, 0, last).astype(jnp.int32)
        return jnp.where(jnp.count_nonzero(counts) <= 1, channel, table[indices])
