"""Accuracies under Keras's names: functions with a value for each row or element, and their means."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.dispatch import symbolic_aware
from easyflax.losses.shapes import align, check_class_indices, check_rows
from easyflax.metrics.reduction import NamedMean

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]


def accuracy(y_true: Any, y_pred: Any) -> jax.Array:
    """Returns one for each output that equals its label, else zero: float32 `(batch, ...)`."""
    y_true, y_pred = align("accuracy", y_true, y_pred)
    return _as_numbers(y_true == y_pred)


@symbolic_aware
def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> jax.Array:
    """Returns one for each output on its label's side of the threshold, else zero.

    Args:
        y_true: 0 or 1, of the shape of the outputs.
        y_pred: `(batch, ...)`.
        threshold: outputs above it stand for label 1.

    Returns:
        float32 `(batch, ...)`.
    """
    y_true, y_pred = align("binary_accuracy", y_true, y_pred)
    return _as_numbers(y_true == (y_pred > threshold))


@symbolic_aware
def categorical_accuracy(y_true: Any, y_pred: Any) -> jax.Array:
    """Returns one where the largest output is at the one of a one-hot label, else zero.

    Args:
        y_true: `(batch, ..., classes)`.
        y_pred: `(batch, ..., classes)`.

    Returns:
        float32 `(batch, ...)`.
    """
    y_true, y_pred = align("categorical_accuracy", y_true, y_pred)
    return _as_numbers(y_true.argmax(axis=-1) == y_pred.argmax(axis=-1))


@symbolic_aware
def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> jax.Array:
    """Returns one where the largest output is at the label's class index, else zero.

    Args:
        y_true: class indices `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: `(batch, ..., classes)`.

    Returns:
        float32 `(batch, ...)`.
    """
    labels, y_pred = _labels("sparse_categorical_accuracy", y_true, y_pred)
    return _as_numbers(labels == y_pred.argmax(axis=-1))


@symbolic_aware
def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> jax.Array:
    """Returns one where fewer than `k` outputs exceed that at the one of a one-hot label, else zero.

    Args:
        y_true: `(batch, ..., classes)`.
        y_pred: `(batch, ..., classes)`.
        k: how many classes the model may name.

    Returns:
        float32 `(batch, ...)`.
    """
    y_true, y_pred = align("top_k_categorical_accuracy", y_true, y_pred)
    return _as_numbers(_in_top_k(y_true.argmax(axis=-1), y_pred, k))


@symbolic_aware
def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> jax.Array:
    """Returns one where fewer than `k` outputs exceed that at the label's class index, else zero.

    Args:
        y_true: class indices `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: `(batch, ..., classes)`.
        k: how many classes the model may name.
        from_sorted_ids: whether `y_pred` holds class indices, the best first, in place of scores.

    Returns:
        float32 `(batch, ...)`.
    """
    labels, y_pred = _labels("sparse_top_k_categorical_accuracy", y_true, y_pred)
    if from_sorted_ids:
        return _as_numbers((y_pred[..., :k] == labels[..., None]).any(axis=-1))
    return _as_numbers(_in_top_k(labels.astype(jnp.int32), y_pred, k))


class Accuracy(NamedMean):
    """How often outputs equal labels.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "up"

    def __init__(self, name: str | None = "accuracy", dtype: Any = None):
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(NamedMean):
    """How often an output is on its label's side of the threshold.

    Args:
        name: the name in logs.
        dtype: of the result.
        threshold: outputs above it stand for label 1. 0.5 suits probabilities; logits want 0.0, which is what
            a metric given by name takes when the loss reads logits.

    Examples:
        >>> metric = BinaryAccuracy()
        >>> metric.update_state([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.6])
        >>> float(metric.result())
        0.5
    """

    _direction = "up"

    def __init__(self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5):
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(NamedMean):
    """How often the largest output is at the one of a one-hot label.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "up"

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None):
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(NamedMean):
    """How often the largest output is at the label's class index.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "up"

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(NamedMean):
    """How often fewer than `k` outputs are larger than the one at the one of a one-hot label.

    Args:
        k: how many classes the model may name.
        name: the name in logs.
        dtype: of the result.

    Raises:
        ValueError: `k` is less than one.
    """

    _direction = "up"

    def __init__(self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=_checked_k(k))


class SparseTopKCategoricalAccuracy(NamedMean):
    """How often fewer than `k` outputs are larger than the one at the label's class index.

    Args:
        k: how many classes the model may name.
        name: the name in logs.
        dtype: of the result.
        from_sorted_ids: whether outputs are class indices, the best first, in place of scores.

    Raises:
        ValueError: `k` is less than one.
    """

    _direction = "up"

    def __init__(
        self,
        k: int = 5,
        name: str | None = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ):
        function = sparse_top_k_categorical_accuracy
        super().__init__(function, name, dtype, k=_checked_k(k), from_sorted_ids=from_sorted_ids)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        config = super().get_config()
        return config if self.from_sorted_ids else {k: v for k, v in config.items() if k != "from_sorted_ids"}


def _labels(name: str, y_true: Any, y_pred: Any) -> tuple[jax.Array, jax.Array]:
    """Returns labels `(batch, ...)`, of any dtype, and floating scores `(batch, ..., classes)`."""
    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
    check_class_indices(name, y_true.shape, y_pred.shape)
    check_rows(name, y_true.shape, y_pred.shape)
    y_pred = y_pred.astype(jnp.promote_types(y_pred.dtype, jnp.float32))
    return y_true.reshape(y_pred.shape[:-1]), y_pred


def _in_top_k(labels: jax.Array, y_pred: jax.Array, k: int) -> jax.Array:
    """Ties count in the label's favour; a NaN at the label does not."""
    at_label = jnp.take_along_axis(y_pred, labels[..., None], axis=-1, mode="fill")  # a wrong index gives NaN
    larger = (y_pred > at_label).sum(axis=-1)
    return (larger < k) & ~jnp.isnan(at_label[..., 0])


def _as_numbers(is_right: jax.Array) -> jax.Array:
    return is_right.astype(jnp.float32)


def _checked_k(k: int) -> int:
    if k < 1:
        raise ValueError(
            f"k={k} is less than one, expected how many classes may be named. Pass for example k=5."
        )
    return k
