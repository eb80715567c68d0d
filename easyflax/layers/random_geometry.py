"""Random augmentations that move the pixels of images: flips, crops and affine transforms.

Those that read between pixels share `fill_mode`, what lies beyond the edges (a b c d):

    reflect     d c b a | a b c d | d c b a
    constant    k k k k | a b c d | k k k k
    nearest     a a a a | a b c d | d d d d
    wrap        a b c d | a b c d | a b c d
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.image_layer import DataFormat, Shape, check_choice
from easyflax.layers.image_sampling import FILL_MODES, INTERPOLATIONS, affine_coordinates, sample_at
from easyflax.layers.random_image import RandomImageLayer, factor_range
from easyflax.layers.rescaling import as_plain
from easyflax.layers.resizing import check_size, crop_and_resize
from easyflax.random import SeedGenerator

__all__ = [
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
]

Factor = float | tuple[float, float]

_FLIPPED_AXES = {"horizontal": (2,), "vertical": (1,), "horizontal_and_vertical": (1, 2)}


class RandomFlip(RandomImageLayer):
    """Flips each image, or leaves it, with equal chances.

    Args:
        mode: "horizontal" (left becomes right), "vertical" (top becomes bottom) or
            "horizontal_and_vertical" (both at once).
        seed: an integer; drawn from the global seed when left out.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: the mode is unknown.
    """

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.mode = check_choice(self, "mode", mode, tuple(_FLIPPED_AXES))

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        return self.uniform((shape[0], 1, 1, 1), 0.0, 1.0, seed) <= 0.5

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return jnp.where(drawn, jnp.flip(images, _FLIPPED_AXES[self.mode]), images)

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:
        return self.transform(masks, drawn)


class RandomCrop(RandomImageLayer):
    """Cuts a part out of the images of a batch, at one random place for all of them.

    In inference, and where images are not larger than the part in both directions, the largest part in the
    middle that has the wanted ratio is resized.

    Args:
        height: of the output.
        width: of the output.
        seed: an integer; drawn from the global seed when left out.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: a size is not a positive integer.
    """

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: DataFormat | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, name=name, **kwargs)
        self.height, self.width = check_size(self, height, width)

    def draw(self, shape: Shape, training: bool) -> Any:
        is_larger = shape[1] > self.height and shape[2] > self.width
        return self.sample(shape, self.generator) if training and is_larger else ()

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        ends = (shape[1] - self.height + 1, shape[2] - self.width + 1)
        return tuple(self.uniform((), 0.0, float(end), seed).astype(jnp.int32) for end in ends)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return self._cropped(images, drawn, "bilinear")

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:
        return self._cropped(masks, drawn, "nearest")

    def _cropped(self, images: jax.Array, drawn: Any, interpolation: str) -> jax.Array:
        if not drawn:
            return crop_and_resize(images, self.height, self.width, interpolation)
        size = (images.shape[0], self.height, self.width, images.shape[3])
        return jax.lax.dynamic_slice(images, (0, *drawn, 0), size)


class _RandomAffine(RandomImageLayer):
    """Base class of the layers that map the pixels' coordinates by a matrix; `sample` returns the matrices,
    `(batch, 2, 3)`, from the output to the input."""

    def __init__(
        self,
        *,
        fill_mode: str,
        interpolation: str,
        seed: int | None,
        fill_value: float,
        data_format: DataFormat | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.fill_mode = check_choice(self, "fill_mode", fill_mode, FILL_MODES)
        self.interpolation = check_choice(self, "interpolation", interpolation, INTERPOLATIONS)
        self.fill_value = fill_value

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return self._mapped(images, drawn, self.interpolation)

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:
        return self._mapped(masks, drawn, "nearest")

    def _mapped(self, images: jax.Array, matrices: Any, interpolation: str) -> jax.Array:
        coordinates = affine_coordinates(matrices, images.shape[1], images.shape[2])
        return sample_at(images, coordinates, interpolation, self.fill_mode, self.fill_value)


class RandomRotation(_RandomAffine):
    """Turns each image around its middle by a random angle.

    Args:
        factor: share of a full turn, counter-clockwise where positive; one number `f` for `(-f, f)`.
        fill_mode: what lies beyond the edges: "reflect", "constant", "nearest" or "wrap".
        interpolation: "bilinear" or "nearest".
        seed: an integer; drawn from the global seed when left out.
        fill_value: for the fill mode "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds or unknown.
    """

    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            fill_mode=fill_mode,
            interpolation=interpolation,
            seed=seed,
            fill_value=fill_value,
            data_format=data_format,
            **kwargs,
        )
        self.factor = factor_range(self, "factor", factor)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        lower, upper = self.factor
        angles = jnp.deg2rad(self.uniform((shape[0],), lower * 360.0, upper * 360.0, seed))
        sine, cosine = jnp.sin(angles), jnp.cos(angles)
        y, x = (shape[1] - 1) / 2, (shape[2] - 1) / 2
        return _matrices(
            (cosine, -sine, x - x * cosine + y * sine), (sine, cosine, y - x * sine - y * cosine)
        )


class RandomTranslation(_RandomAffine):
    """Shifts each image by a random share of its height and of its width.

    Args:
        height_factor: share of the height, down where positive; one number `f` for `(-f, f)`.
        width_factor: share of the width, to the right where positive; one number `f` for `(-f, f)`.
        fill_mode: what lies beyond the edges: "reflect", "constant", "nearest" or "wrap".
        interpolation: "bilinear" or "nearest".
        seed: an integer; drawn from the global seed when left out.
        fill_value: for the fill mode "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds or unknown.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            fill_mode=fill_mode,
            interpolation=interpolation,
            seed=seed,
            fill_value=fill_value,
            data_format=data_format,
            **kwargs,
        )
        self.height_factor, self.width_factor = as_plain(height_factor), as_plain(width_factor)
        self._heights = factor_range(self, "height_factor", height_factor, inside=True)
        self._widths = factor_range(self, "width_factor", width_factor, inside=True)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        down = self.uniform((shape[0],), *self._heights, seed) * shape[1]
        right = self.uniform((shape[0],), *self._widths, seed) * shape[2]
        return _matrices((1.0, 0.0, -right), (0.0, 1.0, -down))


class RandomZoom(_RandomAffine):
    """Makes what each image shows smaller or larger by a random factor, around its middle.

    Args:
        height_factor: how much more of the height is shown, less where negative; one number `f` for `(-f,
            f)`.
        width_factor: likewise; by default what is drawn for the height.
        fill_mode: what lies beyond the edges: "reflect", "constant", "nearest" or "wrap".
        interpolation: "bilinear" or "nearest".
        seed: an integer; drawn from the global seed when left out.
        fill_value: for the fill mode "constant".
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds or unknown.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            fill_mode=fill_mode,
            interpolation=interpolation,
            seed=seed,
            fill_value=fill_value,
            data_format=data_format,
            **kwargs,
        )
        above = (math.nextafter(-1.0, 0.0), 1.0)  # at -1 nothing would be left to show
        self.height_factor, self.width_factor = as_plain(height_factor), as_plain(width_factor)
        self._heights = factor_range(self, "height_factor", height_factor, above, inside=True)
        self._widths = (
            self._heights
            if width_factor is None
            else factor_range(self, "width_factor", width_factor, above, inside=True)
        )

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        tall = self._drawn(self._heights, shape, seed)
        wide = tall if self.width_factor is None else self._drawn(self._widths, shape, seed)
        y, x = (shape[1] - 1) / 2, (shape[2] - 1) / 2
        return _matrices((wide, 0.0, x * (1.0 - wide)), (0.0, tall, y * (1.0 - tall)))

    def _drawn(self, factor: tuple[float, float], shape: Shape, seed: SeedGenerator) -> jax.Array:
        return self.uniform((shape[0],), 1.0 + factor[0], 1.0 + factor[1], seed)


class RandomShear(_RandomAffine):
    """Slants each image by random amounts, around its upper left corner.

    Args:
        x_factor: how far a row is shifted against the one above, as a share of the distance; one number `f`
            for `(-f, f)`. Both directions are equally likely.
        y_factor: likewise, of columns.
        interpolation: "bilinear" or "nearest".
        fill_mode: what lies beyond the edges: "reflect", "constant", "nearest" or "wrap".
        fill_value: for the fill mode "constant".
        data_format: "channels_last" or "channels_first".
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds or unknown.
    """

    def __init__(
        self,
        x_factor: Factor = 0.0,
        y_factor: Factor = 0.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        data_format: DataFormat | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            fill_mode=fill_mode,
            interpolation=interpolation,
            seed=seed,
            fill_value=fill_value,
            data_format=data_format,
            **kwargs,
        )
        self.x_factor = factor_range(self, "x_factor", x_factor, inside=True)
        self.y_factor = factor_range(self, "y_factor", y_factor, inside=True)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        sign = jnp.where(self.uniform((shape[0],), 0.0, 1.0, seed) > 0.5, -1.0, 1.0)
        y = self.uniform((shape[0],), *self.y_factor, seed) * sign
        x = self.uniform((shape[0],), *self.x_factor, seed) * sign
        return _matrices((1.0, x, 0.0), (y, 1.0, 0.0))


def _matrices(*rows: tuple[Any, Any, Any]) -> jax.Array:
    """Returns matrices `(batch, 2, 3)` from entries that are numbers or `(batch,)`."""
    entries = jnp.broadcast_arrays(*(jnp.asarray(entry, jnp.float32) for row in rows for entry in row))
    return jnp.stack(entries, axis=-1).reshape(-1, 2, 3)
