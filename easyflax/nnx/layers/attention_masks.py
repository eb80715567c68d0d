"""Masks for attention: arrays that say which queries may look at which keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

__all__ = ["combine_masks", "make_attention_mask", "make_causal_mask"]


def make_attention_mask(
    query_input: ArrayLike,
    key_input: ArrayLike,
    pairwise_fn: Callable[[jax.Array, jax.Array], jax.Array] = jnp.multiply,
    extra_batch_dims: int = 0,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Returns a mask with an entry for each pair of a query and a key.

    Args:
        query_input: `(batch..., queries)`, one entry a query, such as 1 for a token and 0 for padding.
        key_input: `(batch..., keys)`, likewise.
        pairwise_fn: makes the entry of a pair out of the two; by default their product.
        extra_batch_dims: how many axes of size 1 to put first.
        dtype: of the mask.

    Returns:
        `(1, ..., batch..., 1, queries, keys)`, with an axis of size 1 for the heads.

    Raises:
        ValueError: an input has no axis, or the batch axes of the two do not go together.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> tokens = jnp.array([[7, 3, 0]])  # the last is padding
        >>> nnx.make_attention_mask(tokens > 0, tokens > 0).tolist()
        [[[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]]
    """
    query_input, key_input = jnp.asarray(query_input), jnp.asarray(key_input)
    _check_inputs(query_input.shape, key_input.shape)
    mask = pairwise_fn(jnp.expand_dims(query_input, -1), jnp.expand_dims(key_input, -2))
    mask = jnp.expand_dims(mask, (*range(extra_batch_dims), -3))  # (1..., batch..., 1, queries, keys)
    return mask.astype(dtype)


def make_causal_mask(x: ArrayLike, extra_batch_dims: int = 0, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Returns a mask that lets each position look at itself and those before it.

    Args:
        x: `(batch..., length)`; only its shape counts.
        extra_batch_dims: how many axes of size 1 to put first.
        dtype: of the mask.

    Returns:
        `(1, ..., batch..., 1, length, length)`, with an axis of size 1 for the heads.

    Raises:
        ValueError: `x` has no axis.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> nnx.make_causal_mask(jnp.ones((1, 3))).tolist()
        [[[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]]]
    """
    shape = np.shape(x)
    _check_inputs(shape, shape)
    positions = jnp.broadcast_to(jnp.arange(shape[-1], dtype=jnp.int32), shape)
    return make_attention_mask(positions, positions, jnp.greater_equal, extra_batch_dims, dtype)


def combine_masks(*masks: ArrayLike | None, dtype: DTypeLike = jnp.float32) -> jax.Array | None:
    """Returns the mask of what all of `masks` allow, or None if all of them are None.

    Args:
        *masks: of one rank, with shapes that broadcast; `None`s do not count.
        dtype: of the result, whose entries are 0 and 1 if there are two masks or more.

    Raises:
        ValueError: the masks have different ranks, or shapes that do not broadcast.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> causal = nnx.make_causal_mask(jnp.ones(2))
        >>> nnx.combine_masks(causal, None, jnp.array([[[0, 1]]])).tolist()
        [[[0.0, 0.0], [0.0, 1.0]]]
    """
    given = [jnp.asarray(mask) for mask in masks if mask is not None]
    if not given:
        return None
    _check_shapes([mask.shape for mask in given])
    combined, *others = given
    for mask in others:
        combined = jnp.logical_and(combined, mask)
    return combined.astype(dtype)


def _check_inputs(queries: tuple[int, ...], keys: tuple[int, ...]) -> None:
    if not queries or not keys or not _broadcast(queries[:-1], keys[:-1]):
        raise ValueError(
            f"Got inputs of shapes {queries} and {keys} for a mask, expected (batch..., queries) and "
            "(batch..., keys). Pass arrays with one entry for each position, for example tokens > 0."
        )


def _check_shapes(shapes: list[Any]) -> None:
    told = ", ".join(map(str, shapes))
    if len({len(shape) for shape in shapes}) > 1:
        raise ValueError(
            f"combine_masks: got masks of shapes {told}, expected the same rank of all. Add axes of size 1, "
            "for example mask[:, None] for the heads."
        )
    if not _broadcast(*shapes):
        raise ValueError(
            f"combine_masks: got masks of shapes {told}, expected shapes that broadcast. Give axes that a "
            "mask does not depend on the size 1."
        )


def _broadcast(*shapes: Any) -> bool:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True
