"""What an initializer is."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

import easyflax.random as random
from easyflax.serialization import Configured

__all__ = ["Initializer", "RandomInitializer"]

Shape = Sequence[int]


class Initializer(Configured):
    """The base class of initializers, called as `initializer(shape, dtype)`; subclasses define `__call__`."""

    def __call__(self, shape: Shape, dtype: DTypeLike | None = None) -> jax.Array:
        """Returns the first value of a variable."""
        raise NotImplementedError(
            f"{type(self).__name__} has no __call__, expected a method __call__(self, shape, dtype=None). "
            "Define it; it returns an array of that shape."
        )


class RandomInitializer(Initializer):
    """An initializer that draws from a distribution; subclasses define `draw`.

    A layer gives it a key of the layer's own. Called by hand it follows its `seed`, and without one a seed
    that it draws from the global one at the first call: the same object gives the same values each time, as
    in Keras.

    Args:
        seed: an integer or a `SeedGenerator`, which decides also in a layer.

    Raises:
        ValueError: `seed` is of another type.
    """

    def __init__(self, seed: int | random.SeedGenerator | None = None):
        if isinstance(seed, dict):
            seed = random.SeedGenerator.from_config(seed["config"])
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, random.SeedGenerator))):
            raise ValueError(
                f"{type(self).__name__} was given seed={seed!r}, expected an integer, a SeedGenerator or "
                "None. Pass for example seed=0."
            )
        self.seed = seed
        self._own_seed: int | None = None

    def draw(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        """Returns the draws that `key` leads to; for subclasses to define."""
        raise NotImplementedError

    def __call__(self, shape: Shape, dtype: DTypeLike | None = None) -> jax.Array:
        seed = self.seed
        if seed is None:
            self._own_seed = random.next_seed() if self._own_seed is None else self._own_seed
            seed = self._own_seed
        return self.draw(random.as_key(seed), tuple(shape), jnp.float32 if dtype is None else dtype)
