"""Layers that bring images to a given size: `Resizing` and `CenterCrop`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.image_layer import DataFormat, ImageLayer, check_choice

__all__ = ["CenterCrop", "Resizing", "crop_and_resize", "resize"]

_INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")


class Resizing(ImageLayer):
    """Resizes images to a height and a width, and leaves their dtype as it is.

    Args:
        height: of the output.
        width: of the output.
        interpolation: "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5".
        crop_to_aspect_ratio: cuts the middle out first, so that nothing is distorted.
        pad_to_aspect_ratio: puts `fill_value` around it first, so that nothing is distorted or lost.
        fill_mode: "constant", the only one.
        fill_value: for `pad_to_aspect_ratio`.
        antialias: whether the image is smoothed where it becomes smaller.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is unknown, or both a crop and padding are wanted.

    Examples:
        >>> import jax.numpy as jnp
        >>> Resizing(2, 4)(jnp.ones((8, 3, 3, 1))).shape
        (8, 2, 4, 1)
    """

    keeps_integers = True

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.height, self.width = check_size(self, height, width)
        self.interpolation = check_choice(self, "interpolation", interpolation, _INTERPOLATIONS)
        self.fill_mode = check_choice(self, "fill_mode", fill_mode, ("constant",))
        if crop_to_aspect_ratio and pad_to_aspect_ratio:
            raise ValueError(
                "Resizing: got crop_to_aspect_ratio=True and pad_to_aspect_ratio=True, expected one of them. "
                "Leave out what you do not want."
            )
        self.crop_to_aspect_ratio = crop_to_aspect_ratio
        self.pad_to_aspect_ratio = pad_to_aspect_ratio
        self.fill_value = fill_value
        self.antialias = bool(antialias)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:  # noqa: ARG002
        return self._resized(images, self.interpolation)

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:  # noqa: ARG002
        return self._resized(masks, "nearest")

    def _resized(self, images: jax.Array, interpolation: str) -> jax.Array:
        if self.crop_to_aspect_ratio:
            images = _crop_to_ratio(images, self.height, self.width)
        elif self.pad_to_aspect_ratio:
            images = _pad_to_ratio(images, self.height, self.width, self.fill_value)
        return resize(images, self.height, self.width, interpolation, self.antialias)


class CenterCrop(ImageLayer):
    """Cuts the middle out of images; those that are smaller are resized first, without distortion.

    Args:
        height: of the output.
        width: of the output.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Examples:
        >>> import jax.numpy as jnp
        >>> CenterCrop(1, 2)(jnp.arange(16.0).reshape(4, 4, 1))[..., 0]
        Array([[5., 6.]], dtype=float32)
    """

    def __init__(self, height: int, width: int, data_format: DataFormat | None = None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.height, self.width = check_size(self, height, width)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:  # noqa: ARG002
        return self._cropped(images, "bilinear")

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:  # noqa: ARG002
        return self._cropped(masks, "nearest")

    def _cropped(self, images: jax.Array, interpolation: str) -> jax.Array:
        top, left = (images.shape[1] - self.height) // 2, (images.shape[2] - self.width) // 2
        if top < 0 or left < 0:
            return crop_and_resize(images, self.height, self.width, interpolation)
        return images[:, top : top + self.height, left : left + self.width]


def check_size(layer: ImageLayer, height: int, width: int) -> tuple[int, int]:
    """Returns a height and a width.

    Raises:
        ValueError: one of them is not a positive integer.
    """
    for name, size in (("height", height), ("width", width)):
        if not isinstance(size, int) or size < 1:
            raise ValueError(
                f"{type(layer).__name__}: {name} is {size!r}, expected a positive integer. Pass the size "
                "of the output in pixels."
            )
    return height, width


def resize(
    images: jax.Array, height: int, width: int, interpolation: str = "bilinear", antialias: bool = False
) -> jax.Array:
    """Resizes images `(batch, height, width, channels)`; integers are rounded and kept in their range."""
    shape = (images.shape[0], height, width, images.shape[3])
    resized = jax.image.resize(images, shape, interpolation, antialias=antialias)
    if jnp.issubdtype(images.dtype, jnp.integer) and resized.dtype != images.dtype:
        limits = jnp.iinfo(images.dtype)
        resized = jnp.clip(jnp.round(resized), limits.min, limits.max)
    return resized.astype(images.dtype)


def crop_and_resize(images: jax.Array, height: int, width: int, interpolation: str = "bilinear") -> jax.Array:
    """Resizes the largest part in the middle of images that has the ratio of `height` to `width`."""
    return resize(_crop_to_ratio(images, height, width), height, width, interpolation)


def _ratio_sizes(images: jax.Array, height: int, width: int) -> tuple[int, int]:
    """Returns the height that goes with the images' width in the wanted ratio, and the other way round."""
    return int(images.shape[2] * height / width), int(images.shape[1] * width / height)


def _crop_to_ratio(images: jax.Array, height: int, width: int) -> jax.Array:
    rows, columns = _ratio_sizes(images, height, width)
    rows, columns = max(min(images.shape[1], rows), 1), max(min(images.shape[2], columns), 1)
    top, left = (images.shape[1] - rows) // 2, (images.shape[2] - columns) // 2
    return images[:, top : top + rows, left : left + columns]


def _pad_to_ratio(images: jax.Array, height: int, width: int, fill_value: float) -> jax.Array:
    rows, columns = _ratio_sizes(images, height, width)
    top, left = max(rows - images.shape[1], 0) // 2, max(columns - images.shape[2], 0) // 2
    return jnp.pad(images, ((0, 0), (top, top), (left, left), (0, 0)), constant_values=fill_value)
