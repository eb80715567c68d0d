"""The confusion matrix of predicted and true classes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.losses.shapes import class_indices
from easyflax.metrics.base import Metric
from easyflax.metrics.weights import weights_like

__all__ = ["ConfusionMatrix", "matrix_of"]


def matrix_of(
    labels: jax.Array, predictions: jax.Array, weights: jax.Array | None, num_classes: int
) -> jax.Array:
    """Returns how often each class is predicted for each label.

    Args:
        labels: integers of any shape; those outside of the classes are left out.
        predictions: integers of the same shape, likewise.
        weights: None, or of the same shape; what weighs zero counts nowhere.
        num_classes: how many classes there are.

    Returns:
        `(num_classes, num_classes)`, by label and prediction; int32 without weights.
    """
    inside = (labels >= 0) & (labels < num_classes) & (predictions >= 0) & (predictions < num_classes)
    cell = jnp.where(inside, labels * num_classes + predictions, 0)
    amounts = jnp.where(inside, jnp.ones((), jnp.int32) if weights is None else weights, 0)
    cells = jax.ops.segment_sum(amounts.ravel(), cell.ravel(), num_segments=num_classes**2)
    return cells.reshape(num_classes, num_classes)


class ConfusionMatrix(Metric):
    """How often each class is predicted for each true class: `(classes, classes)`, rows by label.

    Args:
        num_classes: how many classes there are.
        normalize: None for weighted numbers; `"true"` to divide by the sum of each row, `"pred"` of each
            column, `"all"` by that of all.
        name: the name in logs.
        dtype: of the result.

    Raises:
        ValueError: an argument is none of these.

    Examples:
        >>> metric = ConfusionMatrix(2)
        >>> metric.update_state([0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
        >>> metric.result().tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """

    _weight_zero_leaves_out = True

    def __init__(
        self,
        num_classes: int,
        normalize: str | None = None,
        name: str | None = "confusion_matrix",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if num_classes < 2:
            raise ValueError(
                f"num_classes={num_classes} is less than two, expected how many classes there are. Pass 2 "
                "for a single unit."
            )
        if normalize not in (None, "true", "pred", "all"):
            raise ValueError(
                f"normalize is {normalize!r}, expected None, 'true', 'pred' or 'all'. Pass one of them."
            )
        self.num_classes = num_classes
        self.normalize = normalize
        self.total = self.add_total((num_classes, num_classes), name="total")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: class indices `(batch, ...)` or `(batch, ..., 1)`.
            y_pred: scores `(batch, ..., classes)`, of which the largest is taken; or, of the shape of the
                labels, predicted class indices.
            sample_weight: None, `(batch,)` or the shape of the labels.

        Raises:
            ValueError: labels, outputs and weights do not fit.
        """
        if np.shape(y_pred) == np.shape(y_true):
            labels, predictions = (jnp.asarray(y).astype(jnp.int32) for y in (y_true, y_pred))
        else:
            labels, scores = class_indices(self.name, y_true, y_pred)
            predictions = scores.argmax(axis=-1)
        weights = weights_like(self.name, sample_weight, labels.shape)
        self.total.assign_add(matrix_of(labels, predictions, weights, self.num_classes))

    def result(self) -> jax.Array:
        """Returns the matrix, `(classes, classes)`; zeros where there is nothing to divide by."""
        matrix = self.total.get_value()
        axes = {"true": (1,), "pred": (0,), "all": (0, 1)}
        if self.normalize is not None:
            sums = matrix.sum(axis=axes[self.normalize], keepdims=True)
            matrix = jnp.where(sums == 0, 0, matrix / jnp.where(sums == 0, 1, sums))
        return matrix.astype(self.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        return {**super().get_config(), "num_classes": self.num_classes, "normalize": self.normalize}
