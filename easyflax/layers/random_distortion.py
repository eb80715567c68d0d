"""Random augmentations that bend images: `RandomPerspective` and `RandomElasticTransform`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax import random
from easyflax.layers.image_layer import DataFormat, Shape, check_choice, pair_of_values
from easyflax.layers.image_sampling import (
    FILL_MODES,
    INTERPOLATIONS,
    homographies,
    pixel_coordinates,
    projective_coordinates,
    sample_at,
)
from easyflax.layers.random_image import RandomImageLayer, chosen_rows, factor_range
from easyflax.layers.random_regions import gaussian_blur
from easyflax.random import SeedGenerator

__all__ = ["RandomElasticTransform", "RandomPerspective"]

Factor = float | tuple[float, float]


class RandomPerspective(RandomImageLayer):
    """Shows some images as if seen from an angle, by moving their corners at random.

    Args:
        factor: the share of images; one number `f` for a share between 0 and `f`.
        scale: how far corners move at most, up to half of the image at 1.
        interpolation: "bilinear" or "nearest".
        fill_value: what lies beyond the edges.
        seed: an integer; drawn from the global seed when left out.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds or unknown.
    """

    def __init__(
        self,
        factor: Factor = 1.0,
        scale: float = 1.0,
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        seed: int | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, (0, 1))
        if not 0 <= scale <= 1:
            raise ValueError(
                f"RandomPerspective: scale is {scale!r}, expected a number between 0 and 1. Pass for "
                "example 0.5."
            )
        self.scale = scale
        self.interpolation = check_choice(self, "interpolation", interpolation, INTERPOLATIONS)
        self.fill_value = fill_value

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        chosen = chosen_rows(shape[0], self.factor, seed)
        moves = self.uniform((shape[0], 4, 2), -0.5 * self.scale, 0.5 * self.scale, seed)
        right, bottom = shape[2] - 1, shape[1] - 1
        corners = np.array([[0, 0], [right, 0], [0, bottom], [right, bottom]], np.float32)
        moved = corners * (1 + moves.astype(jnp.float32))
        return chosen, homographies(jnp.broadcast_to(corners, moved.shape), moved)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return self._seen(images, drawn, self.interpolation)

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:
        return self._seen(masks, drawn, "nearest")

    def _seen(self, images: jax.Array, drawn: Any, interpolation: str) -> jax.Array:
        chosen, maps = drawn
        coordinates = projective_coordinates(maps, images.shape[1], images.shape[2])
        return jnp.where(
            chosen, sample_at(images, coordinates, interpolation, "constant", self.fill_value), images
        )


class RandomElasticTransform(RandomImageLayer):
    """Bends some images by smooth random displacements of their pixels.

    Args:
        factor: the share of images; one number `f` for a share between 0 and `f`.
        scale: the strength, drawn for each call; one number `s` for `(0, s)`. At 1 the displacements are
            smooth over a twentieth of the shorter side.
        interpolation: "bilinear" or "nearest".
        fill_mode: what lies beyond the edges: "reflect", "constant", "nearest", "wrap" or "mirror".
        fill_value: for the fill mode "constant".
        value_range: the lowest and the highest value of a pixel.
        seed: an integer; drawn from the global seed when left out.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds or unknown.

    Source: Simard et al. 2003, section 2, https://doi.org/10.1109/ICDAR.2003.1227801
    """

    def __init__(
        self,
        factor: Factor = 1.0,
        scale: Factor = 1.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, (0, 1))
        self.scale = factor_range(self, "scale", scale, (0, 1))
        self.interpolation = check_choice(self, "interpolation", interpolation, INTERPOLATIONS)
        self.fill_mode = check_choice(self, "fill_mode", fill_mode, (*FILL_MODES, "mirror"))
        self.fill_value = fill_value
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        chosen = chosen_rows(shape[0], self.factor, seed)
        strength = self.uniform((), *self.scale, seed)
        return chosen, self._displacements(shape, strength, seed)

    def _displacements(self, shape: Shape, strength: jax.Array, seed: SeedGenerator) -> jax.Array:
        """Returns `(batch, 2, height, width)`, how far each pixel is moved down and to the right."""
        rows, height, width, _ = shape
        sigma = 0.05 * min(height, width) * jnp.maximum(strength, 1e-6)
        noise = random.normal((rows, height, width, 2), dtype=self.compute_dtype, seed=seed) * sigma
        size = int(6 * 0.05 * min(height, width) * self.scale[1]) | 1  # the window for the largest sigma
        smooth = gaussian_blur(noise, (size, size), (sigma, sigma))
        return jnp.moveaxis(smooth * (0.1 * max(height, width) * strength), -1, 1)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return jnp.clip(self._bent(images, drawn, self.interpolation), *self.value_range)

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:
        return self._bent(masks, drawn, "nearest")

    def _bent(self, images: jax.Array, drawn: Any, interpolation: str) -> jax.Array:
        chosen, displacements = drawn
        pixels = jnp.stack(pixel_coordinates(images.shape[1], images.shape[2]))
        bent = sample_at(images, pixels + displacements, interpolation, self.fill_mode, self.fill_value)
        return jnp.where(chosen, bent, images)
