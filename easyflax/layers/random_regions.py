"""Random augmentations that replace or mix regions of images: erasing, blurring, CutMix and MixUp."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from easyflax import random
from easyflax.layers.image_layer import DataFormat, Shape, pair_of_values
from easyflax.layers.random_image import RandomImageLayer, chosen_rows, factor_range
from easyflax.random import SeedGenerator

__all__ = ["CutMix", "MixUp", "RandomErasing", "RandomGaussianBlur"]

Factor = float | tuple[float, float]


class _Boxes(NamedTuple):
    """One box an image, each corner `(batch,)`, in pixels."""

    left: jax.Array
    right: jax.Array
    top: jax.Array
    bottom: jax.Array

    @classmethod
    def draw(cls, layer: RandomImageLayer, shape: Shape, sides: Any, seed: SeedGenerator) -> _Boxes:
        """Returns boxes anywhere in the images, whose `sides`, `(width, height)`, are shares of theirs."""
        bounds: list[jax.Array] = []
        for length, share in zip((shape[2], shape[1]), sides, strict=True):
            size = share * length
            start = layer.uniform((shape[0],), 0.0, 1.0, seed) * (length - size)
            bounds += [start, start + size]
        return cls(*bounds)

    def mask(self, shape: Shape) -> jax.Array:
        """Returns which pixels are inside, `(batch, height, width, 1)`."""
        left, right, top, bottom = (edge[:, None, None] for edge in self)
        rows, columns = jnp.arange(shape[1])[:, None], jnp.arange(shape[2])[None, :]
        inside = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
        return inside[..., None]


class RandomErasing(RandomImageLayer):
    """Fills a random rectangle of some images.

    Args:
        factor: the share of images; one number `f` for a share between 0 and `f`.
        scale: the sides of the rectangle are the square roots of two numbers drawn from this range, as shares
            of the sides of the image.
        fill_value: a number, three for the channels, or None for noise.
        value_range: the lowest and the highest value of a pixel.
        seed: an integer; drawn from the global seed when left out.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds.

    Source: Zhong et al. 2020, https://arxiv.org/abs/1708.04896
    """

    def __init__(
        self,
        factor: Factor = 1.0,
        scale: Factor = (0.02, 0.33),
        fill_value: Any = None,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, (0, 1))
        self.scale = factor_range(self, "scale", scale, (0, 1))
        self.value_range = pair_of_values(self, value_range)
        if isinstance(fill_value, tuple | list) and len(fill_value) != 3:
            raise ValueError(
                f"RandomErasing: fill_value has {len(fill_value)} numbers, expected one, or three for the "
                "channels. Leave it out for noise."
            )
        self.fill_value = tuple(fill_value) if isinstance(fill_value, list) else fill_value

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        sides = jnp.sqrt(self.uniform((shape[0], 2), *self.scale, seed))
        boxes = _Boxes.draw(self, shape, sides.T, seed)
        chosen = chosen_rows(shape[0], self.factor, seed)
        return boxes.mask(shape) & chosen, self._fill(shape, seed)

    def _fill(self, shape: Shape, seed: SeedGenerator) -> jax.Array:
        if self.fill_value is None:
            fill = random.normal(shape, dtype=self.compute_dtype, seed=seed) * self.value_range[1]
        else:
            fill = jnp.asarray(self.fill_value, self.compute_dtype)
        return jnp.clip(fill, *self.value_range)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        erased, fill = drawn
        return jnp.where(erased, fill, images)


class RandomGaussianBlur(RandomImageLayer):
    """Blurs some images, all that are blurred in a call by the same amount.

    Args:
        factor: the share of images; one number `f` for a share between 0 and `f`.
        kernel_size: of the window in pixels, odd; two numbers for its width and its height.
        sigma: the standard deviation of the window in pixels, drawn from a range within 0 and 1 for either
            direction; one number `s` for `(0, s)`.
        value_range: the lowest and the highest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds, or the window is even.
    """

    def __init__(
        self,
        factor: Factor = 1.0,
        kernel_size: int | tuple[int, int] = 3,
        sigma: Factor = 1.0,
        value_range: Any = (0, 255),
        data_format: DataFormat | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, (0, 1))
        sizes = tuple(kernel_size) if isinstance(kernel_size, tuple | list) else (kernel_size, kernel_size)
        if len(sizes) != 2 or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(
                f"RandomGaussianBlur: kernel_size is {kernel_size!r}, expected an odd number, or two. "
                "Pass for example 3."
            )
        self.kernel_size = sizes
        self.sigma = factor_range(self, "sigma", sigma, (0, 1))
        self.value_range = pair_of_values(self, value_range)

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        chosen = chosen_rows(shape[0], self.factor, seed)
        return chosen, self.uniform((2,), *self.sigma, seed) + 1e-6

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        chosen, sigmas = drawn
        blurred = gaussian_blur(images, self.kernel_size, sigmas)
        return jnp.clip(jnp.where(chosen, blurred, images), *self.value_range)


class MixUp(RandomImageLayer):
    """Mixes each image, and its label, with another one of the batch in a random proportion.

    Args:
        alpha: the proportion is drawn from the beta distribution with `alpha` twice.
        data_format: "channels_last" or "channels_first".
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `Layer`.

    Examples:
        >>> import jax.numpy as jnp
        >>> batch = {"images": jnp.zeros((4, 8, 8, 3)), "labels": jnp.eye(4)}
        >>> MixUp(seed=0)(batch)["labels"].sum(axis=1)
        Array([1., 1., 1., 1.], dtype=float32)

    Source: Zhang et al. 2018, https://arxiv.org/abs/1710.09412
    """

    def __init__(
        self,
        alpha: float = 0.2,
        data_format: DataFormat | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.alpha = alpha

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        order = random.shuffle(jnp.arange(shape[0]), seed=seed)
        return order, random.beta((shape[0],), self.alpha, self.alpha, seed=seed)

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        return _mixed(images, *drawn)

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:
        return _mixed(masks.astype(self.compute_dtype), *drawn)

    def transform_labels(self, labels: jax.Array, drawn: Any) -> jax.Array:
        return _mixed(labels.astype(self.compute_dtype), *drawn)


class CutMix(RandomImageLayer):
    """Puts a random rectangle of another image of the batch into each, and mixes their labels by its area.

    Args:
        factor: the proportion is drawn from the beta distribution with a number from this range twice; one
            number `f` for `(0, f)`.
        seed: an integer; drawn from the global seed when left out.
        data_format: "channels_last" or "channels_first".
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is out of bounds.

    Source: Yun et al. 2019, https://arxiv.org/abs/1905.04899
    """

    def __init__(
        self,
        factor: Factor = 1.0,
        seed: int | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, (0, 1))

    def sample(self, shape: Shape, seed: SeedGenerator) -> Any:
        alpha = self.uniform((), *self.factor, seed) + 1e-6
        side = jnp.sqrt(1.0 - random.beta((shape[0],), alpha, alpha, self.compute_dtype, seed))
        boxes = _Boxes.draw(self, shape, (side, side), seed)
        area = (boxes.right - boxes.left) * (boxes.bottom - boxes.top) / (shape[1] * shape[2])
        return random.shuffle(jnp.arange(shape[0]), seed=seed), boxes.mask(shape), 1.0 - area

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        order, inside, _ = drawn
        return jnp.where(inside, images[order], images)

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:
        return self.transform(masks, drawn)

    def transform_labels(self, labels: jax.Array, drawn: Any) -> jax.Array:
        order, _, share = drawn
        return _mixed(labels.astype(self.compute_dtype), order, share)


@partial(jax.jit, static_argnames="kernel_size")
def gaussian_blur(images: jax.Array, kernel_size: tuple[int, int], sigmas: Any) -> jax.Array:
    """Returns images `(batch, height, width, channels)` blurred by a Gaussian window, zeros around them.

    Args:
        images: floating.
        kernel_size: width and height of the window.
        sigmas: its standard deviations, in the same order.
    """
    wide, tall = (
        _gaussian(size, sigma, images.dtype) for size, sigma in zip(kernel_size, sigmas, strict=True)
    )
    channels = images.shape[-1]
    kernel = jnp.tile(jnp.outer(tall, wide)[:, :, None, None], (1, 1, 1, channels))
    return jax.lax.conv_general_dilated(
        images,
        kernel.astype(images.dtype),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


def _gaussian(size: int, sigma: Any, dtype: Any) -> jax.Array:
    offsets = jnp.arange(size, dtype=dtype) - (size - 1) / 2
    weights = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / jnp.sum(weights)


def _mixed(values: jax.Array, order: jax.Array, share: jax.Array) -> jax.Array:
    """Returns `share` of each row and the rest of another."""
    share = share.astype(values.dtype).reshape(-1, *(1,) * (values.ndim - 1))
    return share * values + (1.0 - share) * values[order]
