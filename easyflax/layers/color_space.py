"""Conversions of colours, with the channels in the last axis."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["hsv_to_rgb", "rgb_to_grayscale", "rgb_to_hsv"]

_LUMINANCE = (0.2989, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


def rgb_to_grayscale(images: jax.Array) -> jax.Array:
    """Returns how bright each pixel is, `(..., 1)`; what has one channel as it is.

    Raises:
        ValueError: the images have neither three channels nor one.
    """
    if images.shape[-1] == 1:
        return images
    _check_channels(images)
    return jnp.sum(images * np.asarray(_LUMINANCE, images.dtype), axis=-1, keepdims=True)


@jax.jit
def rgb_to_hsv(images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns hue and saturation, from 0 to 1, and value, in the range of the images, each without channels.

    Raises:
        ValueError: the images have not three channels.

    Source: Smith 1978, Color gamut transform pairs, https://doi.org/10.1145/965139.807361
    """
    _check_channels(images)
    images = jnp.where(jnp.abs(images) < jnp.finfo(images.dtype).eps, 0.0, images)
    red, green, blue = jnp.moveaxis(images, -1, 0)
    value = jnp.max(images, axis=-1)
    chroma = value - jnp.min(images, axis=-1)
    saturation = jnp.where(value > 0, chroma / jnp.where(value > 0, value, 1.0), 0.0)
    sixth = 1.0 / (6.0 * jnp.where(chroma > 0, chroma, 1.0))
    hue = jnp.select(
        [chroma <= 0, value == red, value == green],
        [jnp.zeros_like(value), sixth * (green - blue), sixth * (blue - red) + 2.0 / 6.0],
        sixth * (red - green) + 4.0 / 6.0,
    )
    return jnp.where(hue < 0, hue + 1.0, hue), saturation, value


@jax.jit
def hsv_to_rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
    """Returns `(..., 3)`, the colours of what `rgb_to_hsv` returns."""
    sixths = jnp.mod(hue, 1.0) * 6.0
    red = jnp.clip(jnp.abs(sixths - 3.0) - 1.0, 0.0, 1.0)
    green = jnp.clip(2.0 - jnp.abs(sixths - 2.0), 0.0, 1.0)
    blue = jnp.clip(2.0 - jnp.abs(sixths - 4.0), 0.0, 1.0)
    pure = jnp.stack([red, green, blue], axis=-1)
    return value[..., None] * (1.0 - saturation[..., None] + saturation[..., None] * pure)


def _check_channels(images: jax.Array) -> None:
    if images.shape[-1] != 3:
        raise ValueError(
            f"Images of {images.shape[-1]} channels were given to a layer that changes colours, expected 3: "
            "red, green and blue. Pass such images, or set data_format."
        )
