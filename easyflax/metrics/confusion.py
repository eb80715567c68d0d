"""How many yes-or-no predictions are right and wrong in which way, at one or many thresholds.

Where thresholds are evenly spaced over [0, 1], each prediction is counted in the bucket between two of them
and the buckets are summed up: the work is that of one pass over the data, however many thresholds there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.losses.shapes import pair
from easyflax.metrics.weights import weights_like

__all__ = [
    "ABOVE_ALL_OTHERS",
    "Counts",
    "Thresholds",
    "are_even",
    "check_between",
    "checked_class_id",
    "checked_top_k",
    "count",
    "plain",
    "ratio",
]

# The threshold that goes with `top_k`: all others are put at it, and nothing below is.
ABOVE_ALL_OTHERS = -1e10


class Counts(NamedTuple):
    """Weighted numbers of predictions, `(thresholds,)` or `(thresholds, labels)`."""

    true_positives: jax.Array
    false_positives: jax.Array
    true_negatives: jax.Array
    false_negatives: jax.Array


class Thresholds(NamedTuple):
    """What predictions have to exceed to count as positive.

    Attributes:
        values: the thresholds, in rising order where they are even.
        are_even: whether they are spaced evenly over [0, 1].
        begin_below: whether the first is below zero, so that every prediction exceeds it.
    """

    values: tuple[float, ...]
    are_even: bool = False
    begin_below: bool = False

    @classmethod
    def of(cls, thresholds: Any, default: float = 0.5) -> Thresholds:
        """Returns what a user gave: None for the default, a number or several.

        Raises:
            ValueError: one is outside [0, 1].
        """
        if thresholds is None:
            return cls((default,))
        values = tuple(float(value) for value in np.ravel(np.asarray(thresholds)))
        check_between("thresholds", values)
        return cls(values, are_even(values))

    @classmethod
    def spread(cls, number: int) -> Thresholds:
        """Returns so many thresholds from zero to one."""
        return cls(tuple(i / (number - 1) for i in range(number)), are_even=True)


def are_even(values: Sequence[float]) -> bool:
    """Returns whether thresholds, at least three, are spaced evenly from zero to one."""
    even = np.arange(len(values), dtype=np.float32) / max(len(values) - 1, 1)
    return len(values) >= 3 and np.allclose(values, even, atol=1e-7)


def count(
    name: str,
    y_true: Any,
    y_pred: Any,
    sample_weight: Any,
    thresholds: Thresholds,
    *,
    top_k: int | None = None,
    class_id: int | None = None,
    by_label: bool = False,
    label_weights: Sequence[float] | None = None,
) -> Counts:
    """Returns how often predictions are above the thresholds where labels are true and where they are not.

    Args:
        name: of the metric, for messages.
        y_true: `(batch, ...)`; all but zero is true.
        y_pred: of the same shape.
        sample_weight: None, `(batch,)` or the shape of the labels; what weighs zero counts nowhere.
        thresholds: see there.
        top_k: count all but the so many largest predictions of the last axis as negative.
        class_id: look at this entry of the last axis only.
        by_label: count each entry of the last axis for itself.
        label_weights: one weight for each entry of the last axis.

    Raises:
        ValueError: labels, predictions and weights do not fit, or there are not enough classes.
    """
    labels, outputs = pair(name, y_true, y_pred)
    weights = weights_like(name, sample_weight, labels.shape)
    is_true = labels != 0
    if top_k is not None:
        outputs = _top_k_only(name, outputs, top_k)
    if class_id is not None:
        _check_axis(name, "class_id", outputs, class_id + 1)
        one = slice(class_id, class_id + 1)
        is_true, outputs = is_true[..., one], outputs[..., one]
        weights = None if weights is None else weights[..., one]
    if label_weights is not None:
        weights = _with_label_weights(name, weights, label_weights, labels.shape)
    shape = (-1, labels.shape[-1]) if by_label else (-1, 1)
    is_true, outputs = is_true.reshape(shape), outputs.reshape(shape)
    weights = None if weights is None else weights.reshape(shape)
    count_flat = _by_buckets if thresholds.are_even else _by_comparison
    counts = count_flat(is_true, outputs, weights, thresholds)
    return counts if by_label else Counts(*(array[:, 0] for array in counts))


def ratio(part: Any, *others: Any) -> jax.Array:
    """Returns the share of `part` in its sum with the others, zero where that is zero."""
    part = jnp.asarray(part)
    whole = sum(map(jnp.asarray, others), part)
    return jnp.where(whole == 0, 0, part / jnp.where(whole == 0, 1, whole))


def checked_top_k(top_k: int | None) -> int | None:
    """Returns `top_k`.

    Raises:
        ValueError: it is less than one.
    """
    if top_k is not None and top_k < 1:
        raise ValueError(
            f"top_k={top_k} is less than one, expected how many predictions of a row may be positive. Pass "
            "for example top_k=5, or leave it out."
        )
    return top_k


def checked_class_id(class_id: int | None) -> int | None:
    """Returns `class_id`.

    Raises:
        ValueError: it is negative.
    """
    if class_id is not None and class_id < 0:
        raise ValueError(f"class_id={class_id} is negative, expected the index of a class. Count from 0.")
    return class_id


def plain(numbers: Any) -> Any:
    """Returns numbers as they were given, arrays as lists."""
    return numbers.tolist() if hasattr(numbers, "tolist") else numbers


def check_between(argument: str, values: Sequence[float]) -> None:
    """Raises unless all are in [0, 1].

    Raises:
        ValueError: one is not.
    """
    wrong = [value for value in values if not 0 <= value <= 1]
    if wrong:
        raise ValueError(
            f"{argument} is {wrong[0]}, expected a number in [0, 1]. Pass one; for predictions that are "
            "logits, let the model end in a sigmoid or softmax."
        )


def _by_comparison(
    is_true: jax.Array, outputs: jax.Array, weights: jax.Array | None, thresholds: Thresholds
) -> Counts:
    is_positive = outputs > jnp.asarray(thresholds.values, outputs.dtype)[:, None, None]
    # An integer counts further than a float.
    weight = jnp.ones((), jnp.int32) if weights is None else weights

    def total(which: jax.Array) -> jax.Array:
        return jnp.where(which, weight, 0).sum(axis=1)  # (thresholds, rows, labels) -> (thresholds, labels)

    return Counts(
        total(is_true & is_positive),
        total(~is_true & is_positive),
        total(~is_true & ~is_positive),
        total(is_true & ~is_positive),
    )


def _by_buckets(
    is_true: jax.Array, outputs: jax.Array, weights: jax.Array | None, thresholds: Thresholds
) -> Counts:
    number = len(thresholds.values)
    # The number of thresholds that a prediction exceeds. NaN exceeds none.
    bucket = jnp.ceil(jnp.clip(jnp.nan_to_num(outputs, nan=0.0), 0, 1) * (number - 1)).astype(jnp.int32)
    bucket = jnp.maximum(bucket, int(thresholds.begin_below))
    weight = jnp.ones((), jnp.int32) if weights is None else weights

    def sums(which: jax.Array) -> tuple[jax.Array, jax.Array]:
        def fill(amounts: jax.Array, bucket: jax.Array) -> jax.Array:
            return jax.ops.segment_sum(amounts, bucket, num_segments=number)

        in_bucket = jax.vmap(fill, in_axes=1, out_axes=1)(jnp.where(which, weight, 0), bucket)
        above = jnp.cumsum(in_bucket[::-1], axis=0)[::-1]
        return jnp.concatenate([above[1:], jnp.zeros_like(above[:1])]), jnp.cumsum(in_bucket, axis=0)

    (true_positives, false_negatives), (false_positives, true_negatives) = sums(is_true), sums(~is_true)
    return Counts(true_positives, false_positives, true_negatives, false_negatives)


def _top_k_only(name: str, outputs: jax.Array, top_k: int) -> jax.Array:
    _check_axis(name, "top_k", outputs, top_k)
    _, best = jax.lax.top_k(outputs, top_k)
    is_best = jax.nn.one_hot(best, outputs.shape[-1], dtype=jnp.bool_).any(axis=-2)
    return jnp.where(is_best, outputs, ABOVE_ALL_OTHERS)


def _check_axis(name: str, argument: str, outputs: jax.Array, classes: int) -> None:
    if outputs.ndim < 2 or outputs.shape[-1] < classes:
        raise ValueError(
            f"{name}: outputs have shape {outputs.shape}, expected (batch, ..., classes) with at least "
            f"{classes} classes for this {argument}. Pass scores for each class, or another {argument}."
        )


def _with_label_weights(
    name: str, weights: jax.Array | None, label_weights: Sequence[float], shape: tuple[int, ...]
) -> jax.Array:
    if shape[-1] != len(label_weights):
        raise ValueError(
            f"{name}: there are {len(label_weights)} label_weights for labels of shape {shape}, expected "
            f"{shape[-1]}. Pass one for each entry of the last axis."
        )
    by_label = jnp.broadcast_to(jnp.asarray(label_weights, jnp.float32), shape)
    return by_label if weights is None else by_label * weights
