"""The cache of keys and values with which a sequence is decoded token by token."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from easyflax.nnx.core.module import Module
from easyflax.nnx.layers import checks

__all__ = ["add_position", "check_room"]

Shape = tuple[int, ...]


def add_position(
    cached_key: jax.Array, cached_value: jax.Array, index: jax.Array, key: jax.Array, value: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns both caches with one position written, and a mask of the positions that are filled then.

    Args:
        cached_key: `(batch..., max_length, heads, depth)`, in the dtype that keys are stored in.
        cached_value: likewise for values.
        index: the position to write, an integer; from `max_length` on the last one is written again.
        key: `(batch..., 1, heads, depth)`.
        value: likewise.

    Returns:
        the two caches, and `(batch..., 1, 1, max_length)`, True up to `index`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.attention_cache import add_position
        >>> cache, new = jnp.zeros((3, 1, 2)), jnp.ones((1, 1, 2))
        >>> keys, values, filled = add_position(cache, cache, jnp.array(1), new, 2 * new)
        >>> keys.ravel().tolist(), filled.ravel().tolist()
        ([0.0, 0.0, 1.0, 1.0, 0.0, 0.0], [True, True, False])
    """
    axis = key.ndim - 3
    cached_key, cached_value = (
        lax.dynamic_update_slice_in_dim(cache, new.astype(cache.dtype), index, axis)
        for cache, new in ((cached_key, key), (cached_value, value))
    )
    *batch, length, _, _ = cached_key.shape
    return cached_key, cached_value, jnp.broadcast_to(jnp.arange(length) <= index, (*batch, 1, 1, length))


def check_room(layer: Module, cache_shape: Shape, index: jax.Array, positions: Shape) -> None:
    """Checks that a cache can take keys of one more position.

    Args:
        layer: named in the error.
        cache_shape: `(batch..., max_length, heads, depth)`.
        index: how many positions are filled; while tracing nobody knows.
        positions: `(batch..., 1)`, the shape of the keys without their features.

    Raises:
        ValueError: they are of another batch or of several positions, or the cache is full.
    """
    *batch, length, _, _ = cache_shape
    if positions != (*batch, 1):
        raise ValueError(
            f"{checks.describe(layer)}: got keys for positions of shape {positions} while decoding, expected "
            f"{(*batch, 1)}, the batch of the cache and one position. Pass one token a call, or make a cache "
            "of that batch with init_cache."
        )
    if not isinstance(index, Tracer) and int(index) >= length:
        raise ValueError(
            f"{checks.describe(layer)}: got one more token for a full cache, expected at most {length}. "
            "Begin again with init_cache, of a larger max_length for longer sequences."
        )
