"""From the values of a batch to one number: weights, masks and the rows that only pad the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["MEAN", "Reduction", "check_reduction", "divisor", "reduce_values"]

Reduction = str | None

MEAN = "sum_over_batch_size"
_REDUCTIONS = (MEAN, "mean", "sum", "mean_with_sample_weight", "none")


def check_reduction(reduction: Reduction) -> None:
    """Raises a ValueError if `reduction` is unknown."""
    if reduction is not None and reduction not in _REDUCTIONS:
        raise ValueError(
            f"reduction={reduction!r} is unknown: expected one of {', '.join(map(repr, _REDUCTIONS))}. "
            "Pass one of these, or leave it out for the mean over the batch."
        )


def reduce_values(
    name: str,
    values: jax.Array,
    reduction: Reduction,
    *,
    sample_weight: Any = None,
    masks: Sequence[Any] = (),
    rows: Any = None,
) -> jax.Array:
    """Returns the values of a batch as one number, weighted; as values if `reduction` is None or `"none"`.

    What a mask or `rows` leave out counts nowhere, not in a divisor either, and a weight of zero leaves out
    as much as there is to leave out, also where the value is infinite.

    Args:
        name: of the loss, for messages.
        values: `(batch, ...)`, or a scalar, which has no weights and masks.
        reduction: see `Loss`.
        sample_weight: a number, `(batch,)`, or more axes of the values.
        masks: booleans, `(batch,)` or with more axes of the values.
        rows: `(batch,)`, False for rows that only pad the batch.

    Raises:
        ValueError: weights or masks do not fit the values.
    """
    if sample_weight is None and rows is None and (not masks or values.ndim == 0):
        return _unweighted(values, reduction)
    valid, weight = _counted(name, values, sample_weight, masks, rows)
    # `where`, not only a product: what stands in a padding row may be infinite.
    weighted = jnp.where(weight == 0, 0, values * weight)
    if reduction in (None, "none", "sum"):
        return weighted.sum() if reduction == "sum" else weighted
    count = _count(values, reduction, valid, weight)
    return jnp.where(count == 0, 0, weighted.sum() / jnp.where(count == 0, 1, count))


def divisor(
    name: str,
    values: jax.Array,
    reduction: Reduction,
    *,
    sample_weight: Any = None,
    masks: Sequence[Any] = (),
) -> jax.Array:
    """Returns what `reduce_values` divides by for a mean over these values, float32 `()`."""
    return _count(values, reduction, *_counted(name, values, sample_weight, masks, None)).astype(jnp.float32)


def _counted(
    name: str, values: jax.Array, sample_weight: Any, masks: Sequence[Any], rows: Any
) -> tuple[jax.Array, jax.Array]:
    """Returns which values count, and how much."""
    valid = jnp.ones((1,) * values.ndim, bool)
    for what, mask in [("mask", rows), *(("mask of the outputs", mask) for mask in masks)]:
        if mask is not None:
            valid = valid & _expand(name, what, jnp.asarray(mask, bool), values.shape)
    weight = valid.astype(values.dtype)
    if sample_weight is not None:
        sample_weight = jnp.asarray(sample_weight, values.dtype)
        weight = weight * _expand(name, "sample_weight", sample_weight, values.shape)
    return valid, weight


def _count(values: jax.Array, reduction: Reduction, valid: jax.Array, weight: jax.Array) -> jax.Array:
    counted = weight if reduction == "mean_with_sample_weight" else valid.astype(values.dtype)
    return jnp.broadcast_to(counted, values.shape).sum()


def _unweighted(values: jax.Array, reduction: Reduction) -> jax.Array:
    if reduction in (None, "none"):
        return values
    return values.sum() if reduction == "sum" or values.size == 0 else values.mean()


def _expand(name: str, what: str, array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Adds axes of one element until `array` has as many as the values."""
    if array.ndim > 1 and array.shape[-1] == 1 and array.shape != shape[: array.ndim]:
        array = array[..., 0]
    if array.shape != shape[: array.ndim]:
        expected = f"{shape[:1]} or {shape}" if len(shape) > 1 else f"{shape}"
        raise ValueError(
            f"Loss {name!r}: {what} has shape {array.shape}, expected {expected}. Pass one number a row, or "
            "one for each value of the loss."
        )
    return array.reshape(array.shape + (1,) * (len(shape) - array.ndim))
