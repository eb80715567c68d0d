"""The seed of everything that is given none, and Keras's functions that draw random arrays.

The n-th key of the global seed is what `np.random.SeedSequence([seed, n])` gives. The counter is a Python
number: a key can be asked for anywhere, also while jax traces a function, where it becomes a constant of the
compiled program. Layers that draw at every call hold a `SeedGenerator` (or `nnx.Rngs`), whose counter is
a variable.

An integer seed, and a `SeedGenerator`, give the numbers that Keras gives for them on JAX.
"""

from __future__ import annotations

import functools
import random as _python_random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

import easyflax.nnx as nnx

__all__ = [
    "SeedGenerator",
    "beta",
    "binomial",
    "categorical",
    "dropout",
    "gamma",
    "get_global_seed",
    "next_key",
    "next_seed",
    "normal",
    "on_host",
    "randint",
    "set_random_seed",
    "shuffle",
    "truncated_normal",
    "uniform",
    "weight_keys",
    "without_counting",
]

Shape = Sequence[int]


class _GlobalSeed:
    """The seed of the process, and how many keys and seeds were drawn from it."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.seed, self.count = seed, 0

    def advance(self) -> int:
        self.count += 1
        return self.count - 1


_GLOBAL = _GlobalSeed()


def set_random_seed(seed: int) -> None:
    """Sets the global seed, and those of Python's `random` and of NumPy.

    Args:
        seed: what all draws without a seed of their own follow from; it is 0 until this is called.

    Raises:
        ValueError: `seed` is not an integer from 0 to 2**32 - 1.

    Examples:
        >>> set_random_seed(7)
        >>> first = normal((2,))
        >>> set_random_seed(7)
        >>> bool((normal((2,)) == first).all())
        True
        >>> set_random_seed(0)
    """
    if not _is_integer(seed) or not 0 <= seed < 2**32:
        raise ValueError(
            f"The random seed was given as {seed!r}, expected an integer from 0 to 2**32 - 1. "
            "Pass for example set_random_seed(0)."
        )
    _python_random.seed(int(seed))
    np.random.seed(int(seed))  # noqa: NPY002  # what programs that use NumPy's global state expect
    _GLOBAL.reset(int(seed))


def get_global_seed() -> int:
    """Returns the seed that `set_random_seed` set last; 0 before."""
    return _GLOBAL.seed


def next_key() -> jax.Array:
    """Returns the next key of the global seed."""
    words = np.random.SeedSequence([_GLOBAL.seed, _GLOBAL.advance()]).generate_state(_words_of_a_key())
    with jax.ensure_compile_time_eval():  # no tracer, wherever it is asked for
        return jax.random.wrap_key_data(words)  # type: ignore[arg-type]  # a NumPy array will do


def _words_of_a_key() -> int:
    """Returns how many numbers of 32 bits make a key of the default kind."""
    return _words_of(jax.config.jax_default_prng_impl)  # type: ignore[attr-defined]


@functools.cache
def _words_of(kind: str) -> int:
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=kind))).size


class _WeightKeys:
    """See `weight_keys`."""

    def params(self) -> jax.Array:
        return next_key()


# Stands for `nnx.Rngs` where a layer only draws its first weights, with keys of the global seed.
weight_keys: Any = _WeightKeys()


@contextmanager
def without_counting() -> Iterator[None]:
    """Has what is drawn from the global seed in the block drawn again after it: for calls on shapes alone."""
    count = _GLOBAL.count
    try:
        yield
    finally:
        _GLOBAL.count = count


def next_seed() -> int:
    """Returns an integer seed drawn from the global one, for what keeps a seed and not a key."""
    return int(np.random.SeedSequence([_GLOBAL.seed, _GLOBAL.advance()]).generate_state(1)[0])


class SeedState(nnx.RngState):
    """The seed and the number of draws of a `SeedGenerator`, uint32."""


class SeedGenerator(nnx.Pytree):
    """A source of keys whose counter is a variable: kept as an attribute of a layer, it is part of its state.

    Args:
        seed: an integer; drawn from the global seed when left out.
        name: its name in configurations.

    Raises:
        ValueError: `seed` is not an integer.

    Examples:
        >>> generator = SeedGenerator(seed=1)
        >>> first, second = normal((), seed=generator), normal((), seed=generator)
        >>> bool(first == second)
        False
    """

    def __init__(self, seed: int | None = None, name: str = "seed_generator"):
        if seed is not None and not _is_integer(seed):
            raise ValueError(
                f"SeedGenerator was given seed={seed!r}, expected an integer or None. "
                "Pass for example seed=0."
            )
        self.name = name
        self.seed = seed
        self.state = SeedState(_key_words(next_seed() if seed is None else seed), tag=name)

    def next(self, ordered: bool = True) -> jax.Array:
        """Returns the next key.

        Args:
            ordered: count up; else jump, as Keras does for draws whose order does not matter.
        """
        words = self.state.get_value()
        if ordered:
            self.state.set_value(words + jnp.array([0, 1], jnp.uint32))
        else:
            self.state.set_value((words + jnp.uint32(1)) * jnp.uint32(5387) % jnp.uint32(933199))
        return jax.random.wrap_key_data(words, impl="threefry2x32")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make a generator like this one at its start."""
        return {"seed": self.seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeedGenerator:
        """Returns a new generator from what `get_config` returned."""
        return cls(**config)


Seed = int | SeedGenerator | jax.Array | None


def as_key(seed: Seed) -> jax.Array:
    """Returns the key that a `seed=` argument stands for.

    Args:
        seed: an integer (the same key each time), a `SeedGenerator` (its next), a key, or None (the next of
            the global seed).

    Raises:
        ValueError: `seed` is none of these.
    """
    if seed is None:
        return next_key()
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if isinstance(seed, jax.Array):
        return seed
    if _is_integer(seed):
        return jax.random.wrap_key_data(_key_words(seed), impl="threefry2x32")
    raise ValueError(
        f"A seed was given as {type(seed).__name__}, expected an integer, a SeedGenerator or None. "
        "Pass for example seed=0."
    )


def on_host(key: jax.Array) -> Any:
    """Returns a `np.random.Generator` that follows from a key, or the key itself where it is being traced.

    `normal`, `truncated_normal` and `uniform` take it as `seed`. jax compiles its draws for each shape, which
    is most of the time that making the weights of a network takes; NumPy compiles nothing.
    """
    if isinstance(key, Tracer):
        return key
    with jax.ensure_compile_time_eval():
        words = np.asarray(jax.random.key_data(key))
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(words.ravel().tolist())))


def _from_host(draws: np.ndarray, dtype: DTypeLike | None) -> Any:
    return draws.astype(_floating(dtype))


def _truncated_on_host(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    draws = generator.standard_normal(int(np.prod(shape)), np.float32)
    while (beyond := np.flatnonzero(np.abs(draws) > 2)).size:
        draws[beyond] = generator.standard_normal(beyond.size, np.float32)
    return draws.reshape(shape)


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _key_words(seed: int) -> jax.Array:
    """The two words of the key that Keras makes from an integer."""
    return jnp.array([int(seed) & 0xFFFFFFFF, 0], jnp.uint32)


def _floating(dtype: DTypeLike | None) -> DTypeLike:
    return jnp.float32 if dtype is None else dtype


def normal(
    shape: Shape, mean: float = 0.0, stddev: float = 1.0, dtype: DTypeLike | None = None, seed: Seed = None
) -> jax.Array:
    """Returns draws from a normal distribution, in float32 unless `dtype` says otherwise."""
    if isinstance(seed, np.random.Generator):
        return _from_host(seed.standard_normal(shape, np.float32) * stddev + mean, dtype)
    return jax.random.normal(as_key(seed), tuple(shape), _floating(dtype)) * stddev + mean


def truncated_normal(
    shape: Shape, mean: float = 0.0, stddev: float = 1.0, dtype: DTypeLike | None = None, seed: Seed = None
) -> jax.Array:
    """Returns draws from a normal distribution without what lies beyond two `stddev` from the `mean`.

    `stddev` is that of the distribution before the tails are cut; what is left has 0.88 of it.
    """
    if isinstance(seed, np.random.Generator):
        return _from_host(_truncated_on_host(seed, shape) * stddev + mean, dtype)
    draws = jax.random.truncated_normal(as_key(seed), -2.0, 2.0, tuple(shape), _floating(dtype))
    return draws * stddev + mean


def uniform(
    shape: Shape, minval: float = 0.0, maxval: float = 1.0, dtype: DTypeLike | None = None, seed: Seed = None
) -> jax.Array:
    """Returns draws between `minval` and `maxval`, the upper end left out.

    Raises:
        ValueError: `dtype` is not floating.
    """
    if not jnp.issubdtype(_floating(dtype), jnp.floating):
        raise ValueError(
            f"uniform was given dtype={dtype!r}, expected a floating one. Use randint for integers."
        )
    if isinstance(seed, np.random.Generator):
        return _from_host(seed.random(shape, np.float32) * (maxval - minval) + minval, dtype)
    return jax.random.uniform(as_key(seed), tuple(shape), _floating(dtype), minval, maxval)


def randint(
    shape: Shape, minval: int, maxval: int, dtype: DTypeLike = "int32", seed: Seed = None
) -> jax.Array:
    """Returns integers from `minval` to `maxval - 1`.

    Raises:
        ValueError: `dtype` is not an integer one.
    """
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(
            f"randint was given dtype={dtype!r}, expected an integer one. Use uniform for floats."
        )
    return jax.random.randint(as_key(seed), tuple(shape), minval, maxval, dtype)


def categorical(
    logits: ArrayLike, num_samples: int, dtype: DTypeLike = "int32", seed: Seed = None
) -> jax.Array:
    """Returns classes drawn with the probabilities `softmax(logits)`.

    Args:
        logits: `(batch, classes)`.
        num_samples: how many to draw for each row.

    Returns:
        `(batch, num_samples)`.

    Raises:
        ValueError: `logits` do not have two axes.
    """
    logits = jnp.asarray(logits)
    if logits.ndim != 2:
        raise ValueError(
            f"categorical was given logits of shape {logits.shape}, expected (batch, classes). "
            "Reshape them first."
        )
    shape = (logits.shape[0], num_samples)
    return jax.random.categorical(as_key(seed), logits[..., None], axis=1, shape=shape).astype(dtype)


def dropout(
    inputs: ArrayLike, rate: float, noise_shape: Sequence[int | None] | None = None, seed: Seed = None
) -> jax.Array:
    """Returns `inputs` with a random share `rate` of it set to zero and the rest divided by `1 - rate`.

    Args:
        inputs: floating, any shape.
        rate: from 0 to 1.
        noise_shape: the shape in which is decided what stays, 1 where an axis shares one decision; None
            stands for the size of that axis.
    """
    x = jnp.asarray(inputs)
    if rate == 0.0:
        return x
    if rate == 1.0:
        return jnp.zeros_like(x)
    sizes = x.shape if noise_shape is None else noise_shape
    shape = tuple(own if size is None else size for size, own in zip(sizes, x.shape, strict=True))
    keep = jax.random.bernoulli(as_key(seed), 1.0 - rate, shape)
    return jnp.where(jnp.broadcast_to(keep, x.shape), x / (1.0 - rate), jnp.zeros_like(x))


def shuffle(x: ArrayLike, axis: int = 0, seed: Seed = None) -> jax.Array:
    """Returns `x` with its entries in random order along `axis`, each line in an order of its own."""
    return jax.random.permutation(as_key(seed), jnp.asarray(x), axis, independent=True)


def gamma(shape: Shape, alpha: ArrayLike, dtype: DTypeLike | None = None, seed: Seed = None) -> jax.Array:
    """Returns draws from a gamma distribution of shape parameter `alpha` and scale 1."""
    return jax.random.gamma(as_key(seed), alpha, tuple(shape), _floating(dtype))


def beta(
    shape: Shape, alpha: ArrayLike, beta: ArrayLike, dtype: DTypeLike | None = None, seed: Seed = None
) -> jax.Array:
    """Returns draws from a beta distribution with the parameters `alpha` and `beta`."""
    key, dtype = as_key(seed), _floating(dtype)
    return jax.random.beta(key, jnp.asarray(alpha), jnp.asarray(beta), tuple(shape), dtype)


def binomial(
    shape: Shape,
    counts: ArrayLike,
    probabilities: ArrayLike,
    dtype: DTypeLike | None = None,
    seed: Seed = None,
) -> jax.Array:
    """Returns how many of `counts` independent trials succeed, each with the probability `probabilities`."""
    n, p = jnp.asarray(counts), jnp.asarray(probabilities)
    return jax.random.binomial(as_key(seed), n, p, tuple(shape), _floating(dtype))
