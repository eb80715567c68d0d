"""Random augmentations of colours: brightness, contrast, saturation, hue and grey."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.color_space import hsv_to_rgb, rgb_to_grayscale, rgb_to_hsv
from easyflax.layers.image_layer import DataFormat, Shape, pair_of_values, rescale_values
from easyflax.layers.random_image import RandomImageLayer, factor_range
from easyflax.random import SeedGenerator

__all__ = [
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomGrayscale",
    "RandomHue",
    "RandomSaturation",
]

Factor = float | tuple[float, float]


class RandomBrightness(RandomImageLayer):
    """Adds a random number to all pixels of each image, and keeps them in their range.

    Args:
        factor: what is added, as a share of the value range; one number `f` for `(-f, f)`.
        value_range: the lowest and the highest value of a pixel.
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `ImageLayer`.

    Raises:
        ValueError: an argument is out of bounds.
    """

    def __init__(
        self, factor: Factor, value_range: Any = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        self.factor = factor_range(self, "factor", factor)
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        low, high = self.value_range
        return self.uniform((shape[0], 1, 1, 1), *self.factor, seed) * (high - low)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return jnp.clip(images + drawn, *self.value_range)


class RandomContrast(RandomImageLayer):
    """Multiplies the differences from the mean of each image and channel by a random number.

    Args:
        factor: the number is drawn between `1 - lower` and `1 + upper`; one number `f` for `(0, f)`.
        value_range: the lowest and the highest value of a pixel.
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `ImageLayer`.

    Raises:
        ValueError: an argument is out of bounds.
    """

    def __init__(
        self, factor: Factor, value_range: Any = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        self.factor = factor_range(self, "factor", factor, (0, 1))
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        lower, upper = self.factor
        return self.uniform((shape[0], 1, 1, 1), 1.0 - lower, 1.0 + upper, seed)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        mean = jnp.mean(images, axis=(1, 2), keepdims=True)
        return jnp.clip((images - mean) * drawn + mean, *self.value_range)


class RandomSaturation(RandomImageLayer):
    """Makes the colours of each image paler or stronger at random.

    The saturation is multiplied by `factor / (1 - factor)`: it stays as it is at 0.5, becomes grey at 0, and
    grows without bound towards 1. As in Keras it is then kept within the value range.

    Args:
        factor: one number `f` stands for `(-f, f)`.
        value_range: the lowest and the highest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds, or the images have not three channels.
    """

    def __init__(
        self,
        factor: Factor,
        value_range: Any = (0, 255),
        data_format: DataFormat | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor)
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        share = self.uniform((shape[0], 1, 1), *self.factor, seed)
        return share / (1.0 - share + 1e-7)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        hue, saturation, value = rgb_to_hsv(images)
        return hsv_to_rgb(hue, jnp.clip(saturation * drawn, *self.value_range), value)


class RandomHue(RandomImageLayer):
    """Turns the hue of each image by a random part of half the colour circle, in a random direction.

    Args:
        factor: share of half the circle; one number `f` for `(0, f)`.
        value_range: the lowest and the highest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds, or the images have not three channels.
    """

    def __init__(
        self,
        factor: Factor,
        value_range: Any = (0, 255),
        data_format: DataFormat | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, (0, 1))
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        sign = jnp.where(self.uniform((shape[0], 1, 1), 0.0, 1.0, seed) > 0.5, -1.0, 1.0)
        return sign * self.uniform((shape[0], 1, 1), *self.factor, seed) * 0.5

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        hue, saturation, value = rgb_to_hsv(rescale_values(images, self.value_range, (0, 1)))
        turned = jnp.clip(hsv_to_rgb(hue + drawn.astype(hue.dtype), saturation, value), 0, 1)
        return rescale_values(turned, (0, 1), self.value_range)


class RandomGrayscale(RandomImageLayer):
    """Turns some images grey; they keep their channels.

    Args:
        factor: the share of images that become grey.
        data_format: "channels_last" or "channels_first".
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `Layer`.

    Raises:
        ValueError: the factor is not between 0 and 1, or the images have neither three channels nor one.
    """

    def __init__(
        self,
        factor: float = 0.5,
        data_format: DataFormat | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        if not 0 <= factor <= 1:
            raise ValueError(
                f"RandomGrayscale: factor is {factor!r}, expected a number between 0 and 1. Pass the "
                "share of images that are to become grey."
            )
        self.factor = factor

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        return self.uniform((shape[0], 1, 1, 1), 0.0, 1.0, seed) < self.factor

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return jnp.where(drawn, rgb_to_grayscale(images), images)


class RandomColorDegeneration(RandomImageLayer):
    """Mixes each image with its grey version, in a random proportion.

    Args:
        factor: the share of grey; one number `f` for `(-f, f)`, where negative shares make colours stronger.
        value_range: the lowest and the highest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds, or the images have neither three channels nor one.
    """

    def __init__(
        self,
        factor: Factor,
        value_range: Any = (0, 255),
        data_format: DataFormat | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor)
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        return self.uniform((shape[0], 1, 1, 1), *self.factor, seed)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        mixed = images + drawn * (rgb_to_grayscale(images) - images)
        return jnp.clip(mixed, *self.value_range)


class RandomColorJitter(RandomImageLayer):
    """Changes brightness, contrast, saturation and hue of each image at random, in this order.

    Args:
        value_range: the lowest and the highest value of a pixel.
        brightness_factor: see `RandomBrightness`; None leaves the brightness as it is.
        contrast_factor: see `RandomContrast`.
        saturation_factor: see `RandomSaturation`.
        hue_factor: see `RandomHue`.
        seed: an integer; drawn from the global seed when left out.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds, or the images have not three channels.
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        brightness_factor: Factor | None = None,
        contrast_factor: Factor | None = None,
        saturation_factor: Factor | None = None,
        hue_factor: Factor | None = None,
        seed: int | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.value_range = pair_of_values(self, value_range)
        self.brightness_factor = brightness_factor
        self.contrast_factor = contrast_factor
        self.saturation_factor = saturation_factor
        self.hue_factor = hue_factor
        factors = (brightness_factor, contrast_factor, saturation_factor, hue_factor)
        kinds = (RandomBrightness, RandomContrast, RandomSaturation, RandomHue)
        self.random_brightness, self.random_contrast, self.random_saturation, self.random_hue = (
            None
            if factor is None
            else kind(factor, value_range=self.value_range, seed=seed, dtype=self._dtype_config)
            for kind, factor in zip(kinds, factors, strict=True)
        )

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        return [layer.sample(shape, seed) for layer in self._steps()]

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        for layer, one in zip(self._steps(), drawn, strict=True):
            images = layer.transform(images, one)
        return images

    def _steps(self) -> list[RandomImageLayer]:
        steps = (self.random_brightness, self.random_contrast, self.random_saturation, self.random_hue)
        return [layer for layer in steps if layer is not None]
