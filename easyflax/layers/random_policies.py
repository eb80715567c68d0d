"""`RandAugment`: augmentations drawn from a list, one after the other."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from easyflax import random
from easyflax.layers.histogram import AutoContrast, Equalization
from easyflax.layers.image_layer import DataFormat, ImageLayer, Shape, pair_of_values
from easyflax.layers.random_color import RandomBrightness, RandomColorDegeneration, RandomContrast
from easyflax.layers.random_geometry import RandomRotation, RandomShear, RandomTranslation
from easyflax.layers.random_image import RandomImageLayer, factor_range
from easyflax.layers.random_tone import RandomPosterization, RandomSharpness, Solarization
from easyflax.random import SeedGenerator

__all__ = ["RandAugment"]


class RandAugment(RandomImageLayer):
    """Applies a few augmentations to a batch, drawn from eleven, with random strengths for each image.

    They are shear, translation, rotation, brightness, grey, contrast, sharpness, posterization, solarization,
    auto-contrast and equalization.

    Args:
        value_range: the lowest and the highest value of a pixel.
        num_ops: how many are applied, one after the other.
        factor: the `factor` of each of them, within 0 and 1; one number `f` for `(0, f)`.
        interpolation: "bilinear" or "nearest".
        seed: an integer; drawn from the global seed when left out.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds or unknown.

    Source: Cubuk et al. 2020, https://arxiv.org/abs/1909.13719
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        num_ops: int = 2,
        factor: float | tuple[float, float] = 0.5,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.value_range = values = pair_of_values(self, value_range)
        self.num_ops = num_ops
        self.factor = strength = factor_range(self, "factor", factor, (0, 1))
        self.interpolation = interpolation
        given: dict[str, Any] = {"seed": seed, "dtype": self._dtype_config}
        moved = {"interpolation": interpolation, **given}
        toned = {"value_range": values, **given}
        self.random_shear = RandomShear(strength, strength, **moved)
        self.random_translation = RandomTranslation(strength, strength, **moved)
        self.random_rotation = RandomRotation(strength, **moved)
        self.random_brightness = RandomBrightness(strength, **toned)
        self.random_color_degeneration = RandomColorDegeneration(strength, **toned)
        self.random_contrast = RandomContrast(strength, **toned)
        self.random_sharpness = RandomSharpness(strength, **toned)
        self.random_posterization = RandomPosterization(max(1, int(8 * strength[1])), **toned)
        self.solarization = Solarization(strength, strength, **toned)
        self.auto_contrast = AutoContrast(values, dtype=self._dtype_config)
        self.equalization = Equalization(values, dtype=self._dtype_config)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        steps = self._steps()
        chosen = random.randint((self.num_ops,), 0, len(steps), seed=seed)
        drawn = [step.sample(shape, seed) if isinstance(step, RandomImageLayer) else () for step in steps]
        return chosen, drawn

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return self._applied("transform", images, drawn)

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:
        return self._applied("transform_masks", masks, drawn)

    def _applied(self, method: str, images: jax.Array, drawn: Any) -> jax.Array:
        chosen, each = drawn
        branches = [
            partial(getattr(step, method), drawn=one) for step, one in zip(self._steps(), each, strict=True)
        ]
        for index in range(self.num_ops):
            images = jax.lax.switch(chosen[index], branches, images)
        return images

    def _steps(self) -> list[ImageLayer]:
        return [
            self.random_shear,
            self.random_translation,
            self.random_rotation,
            self.random_brightness,
            self.random_color_degeneration,
            self.random_contrast,
            self.random_sharpness,
            self.random_posterization,
            self.solarization,
            self.auto_contrast,
            self.equalization,
        ]
