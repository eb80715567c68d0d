"""What an initializer is, and how the layers of `easyflax.nnx` are given one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

import easyflax.random as random
from easyflax.serialization import Configured

__all__ = ["Initializer", "KeyedInitializer", "RandomInitializer", "as_init"]

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


@dataclass(frozen=True)
class KeyedInitializer:
    """An initializer in the form that jax and the layers of `easyflax.nnx` call: `(key, shape, dtype)`.

    Two of equal initializers are equal, so that equal layers have equal structure.
    """

    initializer: Callable[..., Any]

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        initializer = self.initializer
        if isinstance(initializer, RandomInitializer) and initializer.seed is None:
            return initializer.draw(key, tuple(shape), dtype)
        return jnp.asarray(initializer(tuple(shape), dtype=dtype), dtype)


def as_init(initializer: Callable[..., Any]) -> Callable[..., jax.Array]:
    """Returns `initializer` as a function `(key, shape, dtype)`, for `kernel_init=` of the layers of `nnx`.

    Args:
        initializer: called as in Keras, `(shape, dtype)`, or as in jax, `(key, shape, dtype)`.

    Examples:
        >>> import jax
        >>> from easyflax import initializers
        >>> as_init(initializers.Ones())(jax.random.key(0), (2,), "float32").tolist()
        [1.0, 1.0]
    """
    if isinstance(initializer, KeyedInitializer) or _takes_key(initializer):
        return initializer
    return KeyedInitializer(initializer)


def _takes_key(initializer: Callable[..., Any]) -> bool:
    """Whether a callable has the form of jax's initializers: a key first, or three arguments of its own."""
    if isinstance(initializer, Initializer):
        return False
    try:
        parameters = list(inspect.signature(initializer).parameters.values())
    except (TypeError, ValueError):  # compiled functions may have no signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not positional or positional[0].name == "shape":
        return False
    return positional[0].name in ("key", "rng", "rngs", "rng_key") or len(positional) >= 3
