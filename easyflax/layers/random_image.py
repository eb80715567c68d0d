"""`RandomImageLayer`: base class of the random image augmentations.

What is random comes from a `SeedGenerator` that the layer holds: its counter is part of the state that
training carries on, an integer `seed` makes the numbers repeat, and they are those that Keras draws for it.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from easyflax import random
from easyflax.layers.image_layer import ImageLayer, Shape

__all__ = ["RandomImageLayer", "chosen_rows", "factor_range"]

Range = tuple[float, float]

_NUMBERS = (int, float, np.integer, np.floating)


class RandomImageLayer(ImageLayer):
    """Base class of the layers that change each image of a batch at random, in training.

    As in Keras they are active when called directly: `layer(images)` is for looking at the result, while
    `predict` and `evaluate`, `layer(images, training=False)` and a layer in `.eval()` leave the images as
    they are.

    Args:
        seed: an integer; drawn from the global seed when left out.
        **kwargs: see `ImageLayer`.
    """

    deterministic: bool = False  # until eval() is called

    def __init__(self, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.generator = random.SeedGenerator(seed)

    def draw(self, shape: Shape, training: bool) -> Any:
        """Returns what `sample` draws, in training; else None."""
        return self.sample(shape, self.generator) if training else None

    def sample(self, shape: Shape, seed: random.SeedGenerator) -> Any:
        """Returns the random numbers that `transform` needs.

        Args:
            shape: of the images, `(batch, height, width, channels)`.
            seed: where to draw them from.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method sample(shape, seed). Define it.")

    def uniform(
        self, shape: tuple[int, ...], low: float, high: float, seed: random.SeedGenerator
    ) -> jax.Array:
        """Returns draws between `low` and `high` in the dtype of the images."""
        return random.uniform(shape, low, high, self.compute_dtype, seed)


def factor_range(
    layer: Any, argument: str, factor: Any, bounds: Range = (-1.0, 1.0), *, inside: bool = False
) -> Range:
    """Returns the lower and the upper end of what a factor is drawn from.

    Args:
        layer: named in errors.
        argument: named in errors.
        factor: `(lower, upper)`, or one number that stands for both, negative and positive.
        bounds: what the range must lie in, or, unless `inside`, overlap with.
        inside: whether both ends of a pair must lie within the bounds.

    Raises:
        ValueError: the factor is no number and no pair of them, or beyond the bounds.
    """
    low, high = bounds
    if isinstance(factor, _NUMBERS) and not isinstance(factor, bool) and low <= factor <= high:
        return max(-abs(float(factor)), low), abs(float(factor))
    if (
        isinstance(factor, tuple | list)
        and len(factor) == 2
        and all(isinstance(one, _NUMBERS) for one in factor)
    ):
        lower, upper = sorted(factor)
        fits = low <= lower and upper <= high if inside else factor[0] <= high and factor[1] >= low
        if fits:
            return lower, upper
    raise ValueError(
        f"{type(layer).__name__}: {argument} is {factor!r}, expected a number between {low} and {high}, "
        "or the lower and the upper end of what it is drawn from. Pass for example 0.2."
    )


def chosen_rows(rows: int, probability: Range, seed: random.SeedGenerator) -> jax.Array:
    """Returns which images are changed, bool `(rows, 1, 1, 1)`, with a probability drawn from a range for
    each."""
    probabilities = random.uniform((rows,), *probability, seed=seed)
    return (random.uniform((rows,), seed=seed) < probabilities)[:, None, None, None]
