"""Random augmentations that map or mix the values of pixels, one channel at a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax import random
from easyflax.layers.image_layer import DataFormat, Shape, pair_of_values, rescale_values
from easyflax.layers.random_image import RandomImageLayer, chosen_rows, factor_range
from easyflax.random import SeedGenerator

__all__ = ["RandomInvert", "RandomPosterization", "RandomSharpness", "Solarization"]

Factor = float | tuple[float, float]

_BYTE = (0.0, 255.0)


class RandomPosterization(RandomImageLayer):
    """Keeps a random number of the upper bits of each pixel.

    Args:
        factor: how many of the 8 bits are kept: `(lower, upper)`, the upper end left out where they differ,
            or one number `f` for `(1, f)`.
        value_range: the lowest and the highest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds.
    """

    def __init__(
        self,
        factor: int | tuple[int, int],
        value_range: Any = (0, 255),
        data_format: DataFormat | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, (1, 8))
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        lower, upper = (int(bits) for bits in self.factor)
        rows = (shape[0], 1, 1, 1)
        kept = (
            jnp.full(rows, lower, jnp.uint8)
            if lower == upper
            else random.randint(rows, lower, upper, "uint8", seed)
        )
        return 8 - kept

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        dropped = jnp.broadcast_to(drawn, images.shape)
        values = rescale_values(images, self.value_range, _BYTE).astype(jnp.uint8)
        kept = jnp.left_shift(jnp.right_shift(values, dropped), dropped)
        return rescale_values(kept.astype(images.dtype), _BYTE, self.value_range)


class RandomSharpness(RandomImageLayer):
    """Blurs or sharpens each image by a random amount.

    Args:
        factor: 0 for blurred, 0.5 for unchanged, 1 for sharpened; one number `f` for `(0, f)`.
        value_range: the lowest and the highest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds.
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
        return self.uniform((shape[0], 1, 1, 1), *self.factor, seed) * 2

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        channels = images.shape[-1]
        window = np.full((3, 3), 1 / 13)
        window[1, 1] = 5 / 13
        kernel = jnp.tile(jnp.asarray(window, images.dtype)[:, :, None, None], (1, 1, 1, channels))
        smooth = jax.lax.conv_general_dilated(
            images,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )
        return jnp.clip(images + (1.0 - drawn) * (smooth - images), *self.value_range)


class RandomInvert(RandomImageLayer):
    """Inverts the values of some images: the highest value becomes 0.

    Args:
        factor: the share of images that are inverted; one number `f` for a share between 0 and `f`.
        value_range: the lowest and the highest value of a pixel.
        seed: an integer; drawn from the global seed when left out.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds.
    """

    def __init__(
        self,
        factor: Factor = 1.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, (0, 1))
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        return chosen_rows(shape[0], self.factor, seed)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return jnp.where(drawn, self.value_range[1] - images, images)


class Solarization(RandomImageLayer):
    """Adds a random number to each image, and then inverts all values above a random threshold.

    Args:
        addition_factor: what is added, as a share of the value range; one number `f` for `(0, f)`. As in
            Keras, only the upper end is a share; the lower end counts in 255ths.
        threshold_factor: likewise, above which values are inverted.
        value_range: the lowest and the highest value of a pixel.
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `ImageLayer`.

    Raises:
        ValueError: an argument is out of bounds.
    """

    def __init__(
        self,
        addition_factor: Factor = 0.0,
        threshold_factor: Factor = 0.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        self.addition_factor = factor_range(self, "addition_factor", addition_factor, (0, 1), inside=True)
        self.threshold_factor = factor_range(self, "threshold_factor", threshold_factor, (0, 1), inside=True)
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        return tuple(
            self.uniform((shape[0], 1, 1, 1), lower, upper * 255, seed)
            for lower, upper in (self.addition_factor, self.threshold_factor)
        )

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        additions, thresholds = drawn
        values = jnp.clip(rescale_values(images, self.value_range, _BYTE) + additions, *_BYTE)
        values = jnp.where(values < thresholds, values, 255 - values)
        return rescale_values(values, _BYTE, self.value_range)
