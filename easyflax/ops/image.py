"""Images: sizes, crops, colours and patches. They are `(height, width, channels)`, or a batch of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.ops.nn import _is_channels_first

NAMES = (
    *(
        "crop_images",
        "extract_patches",
        "hsv_to_rgb",
        "map_coordinates",
        "pad_images",
        "resize",
        "rgb_to_grayscale",
    ),
    "rgb_to_hsv",
)

_METHODS = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")


def _with_channels_last(images: ArrayLike, data_format: str | None) -> tuple[jax.Array, bool]:
    images, first = jnp.asarray(images), _is_channels_first(data_format)
    if images.ndim not in (3, 4):
        raise ValueError(
            f"An image was given with shape {images.shape}, expected (height, width, channels) or a batch of "
            "these. Reshape it."
        )
    return (jnp.moveaxis(images, -3, -1) if first else images), first


def _as_given(images: jax.Array, first: bool) -> jax.Array:
    return jnp.moveaxis(images, -1, -3) if first else images


@symbolic_aware
def resize(
    images: ArrayLike,
    size: Sequence[int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> jax.Array:
    """Returns images of another size.

    Args:
        images: see the module.
        size: `(height, width)`.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        antialias: whether what gets smaller is smoothed before.
        crop_to_aspect_ratio: cut away what makes the image longer or wider than `size` is, in its middle.
        pad_to_aspect_ratio: add what it lacks to be as long or wide.
        fill_mode: `"constant"`.
        fill_value: what is added.
        data_format: `"channels_last"`, or `"channels_first"`.

    Raises:
        ValueError: an argument is none of these, or crop and pad are asked for both.
    """
    if (
        interpolation not in _METHODS
        or fill_mode != "constant"
        or (crop_to_aspect_ratio and pad_to_aspect_ratio)
    ):
        raise ValueError(
            f"resize was given interpolation={interpolation!r}, fill_mode={fill_mode!r}, "
            "crop_to_aspect_ratio="
            f"{crop_to_aspect_ratio} and pad_to_aspect_ratio={pad_to_aspect_ratio}, expected one of "
            f"{_METHODS}, 'constant', and one of the last two at most. Change the one that is not."
        )
    x, first = _with_channels_last(images, data_format)
    height, width = size
    if crop_to_aspect_ratio:
        rows = max(min(x.shape[-3], int(x.shape[-2] * height / width)), 1)
        columns = max(min(x.shape[-2], int(x.shape[-3] * width / height)), 1)
        top, left = (x.shape[-3] - rows) // 2, (x.shape[-2] - columns) // 2
        x = x[..., top : top + rows, left : left + columns, :]
    elif pad_to_aspect_ratio:
        above = max(int(x.shape[-2] * height / width) - x.shape[-3], 0) // 2
        beside = 0 if above else max(int(x.shape[-3] * width / height) - x.shape[-2], 0) // 2
        widths = [(0, 0)] * (x.ndim - 3) + [(above, above), (beside, beside), (0, 0)]
        x = jnp.pad(x, widths, constant_values=fill_value)
    shape = (*x.shape[:-3], height, width, x.shape[-1])
    return _as_given(jax.image.resize(x, shape, interpolation, antialias), first)


@symbolic_aware
def rgb_to_grayscale(images: ArrayLike, data_format: str | None = None) -> jax.Array:
    """Returns the brightness of red, green and blue, with one channel."""
    x, first = _with_channels_last(images, data_format)
    if x.shape[-1] == 1:
        return jnp.asarray(images)
    weights = jnp.array([0.2989, 0.5870, 0.1140], jnp.promote_types(x.dtype, jnp.float32))
    return _as_given(jnp.tensordot(x, weights, 1)[..., None].astype(x.dtype), first)


@symbolic_aware
def rgb_to_hsv(images: ArrayLike, data_format: str | None = None) -> jax.Array:
    """Returns hue, saturation and value, from 0 to 1, of red, green and blue."""
    x, first = _with_channels_last(images, data_format)
    red, green, blue = jnp.moveaxis(x, -1, 0)
    value = jnp.max(x, axis=-1)
    chroma = value - jnp.min(x, axis=-1)
    safe = jnp.where(chroma > 0, chroma, 1)
    sixths = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = jnp.where(chroma > 0, (sixths / 6) % 1, 0)
    saturation = jnp.where(value > 0, chroma / jnp.where(value > 0, value, 1), 0)
    return _as_given(jnp.stack([hue, saturation, value], axis=-1), first)


@symbolic_aware
def hsv_to_rgb(images: ArrayLike, data_format: str | None = None) -> jax.Array:
    """Returns red, green and blue of hue, saturation and value, from 0 to 1."""
    x, first = _with_channels_last(images, data_format)
    hue, saturation, value = jnp.moveaxis(x, -1, 0)
    sixths = (hue % 1) * 6
    shares = (jnp.abs(sixths - 3) - 1, 2 - jnp.abs(sixths - 2), 2 - jnp.abs(sixths - 4))
    channels = [value * (1 - saturation + saturation * jnp.clip(share, 0, 1)) for share in shares]
    return _as_given(jnp.stack(channels, axis=-1), first)


def _both_sides(
    before: int | None, after: int | None, total: int | None, size: int, sign: int
) -> tuple[int, int]:
    """Returns what is added (or with sign -1 cut away) before and after an axis, of which two are stated."""
    change = None if total is None else sign * (total - size)
    if [before, after, change].count(None) > 1 or None not in (before, after, change):
        raise ValueError(
            f"An axis of size {size} was to be padded or cropped by {before} before and {after} after to the "
            f"size {total}, expected exactly two of the three. Leave one out, or add one."
        )
    if before is None:
        before = change - after  # type: ignore[operator]  # neither is None, see above
    if after is None:
        after = change - before  # type: ignore[operator]
    return before, after  # type: ignore[return-value]


@symbolic_aware
def pad_images(
    images: ArrayLike,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> jax.Array:
    """Returns images with zeros around, by two of top, bottom and height, and two of left, right and width.

    Raises:
        ValueError: other than two of them are.
    """
    x, first = _with_channels_last(images, data_format)
    rows = _both_sides(top_padding, bottom_padding, target_height, x.shape[-3], 1)
    columns = _both_sides(left_padding, right_padding, target_width, x.shape[-2], 1)
    return _as_given(jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [rows, columns, (0, 0)]), first)


@symbolic_aware
def crop_images(
    images: ArrayLike,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> jax.Array:
    """Returns images without margins, by two of top, bottom and height, and two of left, right and width.

    Raises:
        ValueError: other than two of them are.
    """
    x, first = _with_channels_last(images, data_format)
    top, bottom = _both_sides(top_cropping, bottom_cropping, target_height, x.shape[-3], -1)
    left, right = _both_sides(left_cropping, right_cropping, target_width, x.shape[-2], -1)
    return _as_given(x[..., top : x.shape[-3] - bottom, left : x.shape[-2] - right, :], first)


@symbolic_aware
def extract_patches(
    images: ArrayLike,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    dilation_rate: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> jax.Array:
    """Returns the patches of images in two axes, each flattened to `height * width * channels` entries.

    Args:
        images: see the module.
        size: of a patch, `(height, width)`.
        strides: from one patch to the next; the size of a patch by default.
        dilation_rate: from one pixel of a patch to the next.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"`, or `"channels_first"`.
    """
    x, first = _with_channels_last(images, data_format)
    window, steps, gaps = (
        (one, one) if isinstance(one, int) else tuple(one)
        for one in (size, size if strides is None else strides, dilation_rate)
    )
    batch = x if x.ndim == 4 else x[None]
    channels = x.shape[-1]
    patches = jax.lax.conv_general_dilated_patches(
        batch, window, steps, padding.upper(), rhs_dilation=gaps, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    # jax puts the channels before the pixels of a patch
    patches = patches.reshape(*patches.shape[:-1], channels, -1).swapaxes(-1, -2).reshape(patches.shape)
    return _as_given(patches if x.ndim == 4 else patches[0], first)


@symbolic_aware
def map_coordinates(
    inputs: ArrayLike, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: float = 0
) -> jax.Array:
    """Returns `inputs` at places between their entries, as `jax.scipy.ndimage.map_coordinates`."""
    return jax.scipy.ndimage.map_coordinates(jnp.asarray(inputs), coordinates, order, fill_mode, fill_value)
