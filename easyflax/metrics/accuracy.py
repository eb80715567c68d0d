"""Accuracies under Keras's names."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from easyflax.losses.shapes import align, class_indices
from easyflax.metrics.base import RowMetric

__all__ = [
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
]


class _Accuracy(RowMetric):
    direction = "max"


class BinaryAccuracy(_Accuracy):
    """How often an output is on its label's side of the threshold.

    Args:
        name: the name in logs.
        threshold: outputs above it stand for label 1. 0.5 suits probabilities; logits want 0.0, which is what
            a metric given by name takes when the loss reads logits.
    """

    def __init__(self, name: str | None = None, threshold: float = 0.5):
        super().__init__(name)
        self.threshold = threshold

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = align(self.name, y_true, y_pred)
        return y_true == (y_pred > self.threshold)


class CategoricalAccuracy(_Accuracy):
    """How often the largest output is at the one of a one-hot label."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = align(self.name, y_true, y_pred)
        return y_true.argmax(axis=-1) == y_pred.argmax(axis=-1)


class SparseCategoricalAccuracy(_Accuracy):
    """How often the largest output is at the label's class index."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        labels, y_pred = class_indices(self.name, y_true, y_pred)
        return labels == y_pred.argmax(axis=-1)


class SparseTopKCategoricalAccuracy(_Accuracy):
    """How often fewer than `k` outputs are larger than the one at the label's class index.

    Args:
        k: how many classes the model may name.
        name: the name in logs.

    Raises:
        ValueError: `k` is less than one.
    """

    def __init__(self, k: int = 5, name: str | None = None):
        super().__init__(name)
        self.k = _checked_k(k)

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return _in_top_k(*class_indices(self.name, y_true, y_pred), self.k)


class TopKCategoricalAccuracy(_Accuracy):
    """How often fewer than `k` outputs are larger than the one at the one of a one-hot label.

    Args:
        k: how many classes the model may name.
        name: the name in logs.

    Raises:
        ValueError: `k` is less than one.
    """

    def __init__(self, k: int = 5, name: str | None = None):
        super().__init__(name)
        self.k = _checked_k(k)

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = align(self.name, y_true, y_pred)
        return _in_top_k(y_true.argmax(axis=-1), y_pred, self.k)


def _in_top_k(labels: jax.Array, y_pred: jax.Array, k: int) -> jax.Array:
    """Ties count in the label's favour; a NaN at the label does not."""
    at_label = jnp.take_along_axis(y_pred, labels[..., None], axis=-1, mode="fill")  # a wrong index gives NaN
    larger = (y_pred > at_label).sum(axis=-1)
    return (larger < k) & ~jnp.isnan(at_label[..., 0])


def _checked_k(k: int) -> int:
    if k < 1:
        raise ValueError(
            f"k={k} is less than one, expected how many classes may be named. Pass for example k=5."
        )
    return k
