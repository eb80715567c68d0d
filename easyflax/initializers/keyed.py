"""Initializers in the form that jax and the layers of `easyflax.nnx` call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

import easyflax.random as random
from easyflax.initializers.base import Initializer, RandomInitializer, Shape
from easyflax.initializers.registry import get

__all__ = ["KeyedInitializer", "as_init"]


@dataclass(frozen=True)
class KeyedInitializer:
    """An initializer in the form that jax and the layers of `easyflax.nnx` call: `(key, shape, dtype)`.

    Two of equal initializers are equal, so that equal layers have equal structure.
    """

    initializer: Callable[..., Any]

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike = jnp.float32) -> jax.Array:
        initializer = self.initializer
        if isinstance(initializer, RandomInitializer) and initializer.seed is None:
            drawn = initializer.draw(random.on_host(key), tuple(shape), dtype)
            return jax.device_put(drawn) if isinstance(drawn, np.ndarray) else jnp.asarray(drawn)
        return jnp.asarray(initializer(tuple(shape), dtype=dtype), dtype)


def as_init(identifier: Any) -> Callable[..., jax.Array]:
    """Returns an initializer as a function `(key, shape, dtype)`, for `kernel_init=` of the layers of `nnx`.

    Args:
        identifier: as for `get`; a function is called with a key first or without, as its parameters tell.
            None stands for `"glorot_uniform"`.

    Raises:
        ValueError: the name is unknown, or `identifier` is no initializer.

    Examples:
        >>> import jax
        >>> as_init("ones")(jax.random.key(0), (2,), "float32").tolist()
        [1.0, 1.0]
    """
    initializer = get("glorot_uniform" if identifier is None else identifier)
    assert initializer is not None
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
