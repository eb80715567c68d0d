"""How weights and masks meet the values that they belong to, by Keras's rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from easyflax.losses.shapes import same_rank
from easyflax.masks import mask_of

__all__ = ["per_row", "weights_like", "with_mask"]


def with_mask(sample_weight: Any, mask: Any, dtype: DTypeLike) -> Any:
    """Returns weights that are zero where `mask` is False; None for neither.

    Args:
        sample_weight: None, or an array; it may lack the last axes of the mask.
        mask: None, or booleans.
        dtype: of the result.
    """
    if mask is None:
        return sample_weight
    mask = jnp.asarray(mask).astype(dtype)
    if sample_weight is None:
        return mask
    mask, weight = same_rank(mask, jnp.asarray(sample_weight, dtype))
    missing = mask.ndim - weight.ndim
    return mask * weight.reshape(weight.shape + (1,) * missing if weight.ndim else ())


def per_row(
    name: str, values: Any, sample_weight: Any, reduce: Callable[..., jax.Array], dtype: DTypeLike
) -> tuple[jax.Array, jax.Array | None]:
    """Returns weighted values and weights, one for each row.

    Args:
        name: of the metric, for messages.
        values: `(batch, ...)` or a number.
        sample_weight: None, a number, or an array that lacks last axes of the values, or has one element in
            place of more.
        reduce: what makes one value of those of a row, `jnp.mean` or `jnp.sum`.
        dtype: to compute in.

    Returns:
        values `(batch,)`, zero where the weight is, whatever they were; and weights `(batch,)`, None if there
        are none. Of numbers, two numbers.

    Raises:
        ValueError: the weights do not fit the values.
    """
    mask = mask_of(values)
    values = jnp.asarray(values).astype(dtype)
    if sample_weight is None:
        return _reduce_from(reduce, values, 1), None
    values, weight = same_rank(values, jnp.asarray(with_mask(sample_weight, mask, dtype)).astype(dtype))
    values = _reduce_from(reduce, values, weight.ndim)
    weight = _broadcast(name, weight, values.shape)
    values = jnp.where(weight == 0, 0, values * weight)  # what weighs nothing may be infinite
    return _reduce_from(reduce, values, 1), _reduce_from(reduce, weight, 1)


def weights_like(name: str, sample_weight: Any, shape: tuple[int, ...]) -> jax.Array | None:
    """Returns floating weights of a shape; None for none.

    Args:
        name: of the metric, for messages.
        sample_weight: None, a number, one weight a row, or one for each element; a last axis of one element
            may be missing or too many.
        shape: that of the labels.

    Raises:
        ValueError: the weights do not fit.
    """
    if sample_weight is None:
        return None
    weight = jnp.asarray(sample_weight)
    weight = weight.astype(jnp.promote_types(weight.dtype, jnp.float32))
    while weight.ndim > len(shape) and weight.shape[-1] == 1:
        weight = weight[..., 0]
    missing = len(shape) - weight.ndim if weight.ndim else 0
    return _broadcast(name, weight.reshape(weight.shape + (1,) * missing), shape)


def _reduce_from(reduce: Callable[..., jax.Array], array: jax.Array, first: int) -> jax.Array:
    return reduce(array, axis=tuple(range(first, array.ndim))) if array.ndim > first else array


def _broadcast(name: str, weight: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    try:
        return jnp.broadcast_to(weight, shape)
    except ValueError as error:
        raise ValueError(
            f"{name}: sample_weight has shape {weight.shape}, expected {shape[:1]} or {shape} for values of "
            f"shape {shape}. Pass one weight a row, or one for each value."
        ) from error
