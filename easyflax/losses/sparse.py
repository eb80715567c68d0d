"""Losses for labels that are class indices, as functions and as classes, under Keras's names."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.losses.base import BuiltInLoss
from easyflax.losses.categorical import log_probabilities
from easyflax.losses.labels import check_indices
from easyflax.losses.reduction import MEAN, Reduction
from easyflax.losses.shapes import Shape, as_numbers, check_class_indices, class_indices, classes_last
from easyflax.masks import attach_masks

__all__ = [
    "CategoricalGeneralizedCrossEntropy",
    "SparseCategoricalCrossentropy",
    "categorical_generalized_cross_entropy",
    "sparse_categorical_crossentropy",
]


@symbolic_aware
def sparse_categorical_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> jax.Array:
    """Returns the cross-entropy of labels that are class indices.

    Args:
        y_true: indices from 0 to classes - 1, `(...)` or with one element along `axis`, integers or whole
            floating numbers. Any other label gives NaN, never the loss of another class.
        y_pred: outputs, with the classes along `axis`.
        from_logits: whether outputs are logits rather than probabilities.
        ignore_class: an index, of a class or not, whose loss is 0 and which a mask of the result leaves out.
        axis: the axis of the classes.

    Raises:
        ValueError: the shapes do not fit.

    Examples:
        >>> sparse_categorical_crossentropy([1], [[0.5, 0.5]]).round(4)
        Array([0.6931], dtype=float32)
    """
    labels, outputs = _indices_and_scores("sparse_categorical_crossentropy", y_true, y_pred, axis)
    ignored = labels == (-1 if ignore_class is None else ignore_class)
    in_range = (labels >= 0) & (labels < outputs.shape[-1])
    if ignore_class is not None:
        in_range = in_range & ~ignored
        outputs = jnp.where(ignored[..., None], 1, outputs)  # nothing flows back from there, not even NaN
    labels = jnp.where(in_range, labels, 0)
    if from_logits:
        values = optax.losses.softmax_cross_entropy_with_integer_labels(outputs, labels)
    else:
        values = -jnp.take_along_axis(log_probabilities(outputs), labels[..., None], axis=-1)[..., 0]
    values = jnp.where(in_range, values, jnp.nan)
    if ignore_class is None:
        return values
    values = jnp.where(ignored, 0, values)
    attach_masks(values, ~ignored)
    return values


@symbolic_aware
def categorical_generalized_cross_entropy(y_true: ArrayLike, y_pred: ArrayLike, q: float) -> jax.Array:
    """Returns `(1 - p ** q) / q` for the probability `p` at the label, which bears wrong labels.

    Args:
        y_true: class indices `(...)` or `(..., 1)`; one that is no class gives NaN.
        y_pred: probabilities `(..., classes)`.
        q: from near 0, the cross-entropy, to near 1, the absolute error.

    Raises:
        ValueError: the shapes do not fit.

    Source: Zhang and Sabuncu 2018, https://arxiv.org/abs/1805.07836
    """
    labels, outputs = _indices_and_scores("categorical_generalized_cross_entropy", y_true, y_pred, -1)
    in_range = (labels >= 0) & (labels < outputs.shape[-1])
    labels = jnp.where(in_range, labels, 0)
    at_label = jnp.take_along_axis(outputs, labels[..., None], axis=-1)[..., 0]
    return jnp.where(in_range, (1 - at_label**q) / q, jnp.nan)


def _indices_and_scores(
    name: str, y_true: ArrayLike, y_pred: ArrayLike, axis: int
) -> tuple[jax.Array, jax.Array]:
    """Returns indices and scores with the classes on the last axis, also of one example without a batch."""
    labels, outputs = as_numbers(name, "labels", y_true), as_numbers(name, "outputs", y_pred)
    if outputs.ndim == 1 and labels.size == 1:
        labels, outputs = class_indices(name, labels.reshape(1), outputs[None])
        return labels[0], outputs[0]
    y_shape, _ = classes_last(labels.shape, outputs.shape, axis)
    return class_indices(name, labels.reshape(y_shape), jnp.moveaxis(outputs, axis, -1))


class SparseCategoricalCrossentropy(BuiltInLoss):
    """Cross-entropy of labels that are class indices.

    Args:
        from_logits: whether outputs are logits rather than probabilities. None leaves it to
            `resolve`: a model that is compiled with the loss reads it from its own ending.
        ignore_class: an index, of a class or not, that counts nowhere, such as -1 or 255 for unlabelled
            pixels.
        reduction: see `Loss`, as are `name` and `dtype`.
        axis: the axis of the classes.
        name: the name in logs.
        dtype: of the computation.

    Labels are `(batch, ...)` or `(batch, ..., 1)`, whole numbers from 0 to classes - 1. An index outside that
    range that the check on the host has not seen (labels of a stream) gives NaN, never the loss of another
    class.
    """

    function = staticmethod(sparse_categorical_crossentropy)
    unwritten = ("axis",)
    ignore_class: int | None
    axis: int

    def __init__(
        self,
        from_logits: bool | None = False,
        ignore_class: int | None = None,
        reduction: Reduction = MEAN,
        axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            reduction, name, dtype, from_logits=from_logits, ignore_class=ignore_class, axis=axis
        )

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        y_shape, scores_shape = classes_last(np.shape(y), output_shape, self.axis)
        check_class_indices(self.name, y_shape, scores_shape)
        counted = y if self.ignore_class is None else y[y != self.ignore_class]
        check_indices(self.name, counted, scores_shape[-1])


class CategoricalGeneralizedCrossEntropy(BuiltInLoss):
    """A cross-entropy of class indices that bears wrong labels: `(1 - p ** q) / q`.

    Args:
        q: between 0, the cross-entropy, and 1, the absolute error.
        reduction: see `Loss`, as are `name` and `dtype`.
        name: the name in logs.
        dtype: of the computation.

    Labels are class indices, outputs probabilities.

    Raises:
        ValueError: `q` is not between 0 and 1.

    Source: Zhang and Sabuncu 2018, https://arxiv.org/abs/1805.07836
    """

    function = staticmethod(categorical_generalized_cross_entropy)

    def __init__(
        self,
        q: float = 0.5,
        reduction: Reduction = MEAN,
        name: str | None = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ):
        if not 0 < q < 1:
            raise ValueError(f"q={q} is not between 0 and 1, expected a number in (0, 1). Pass q=0.5.")
        super().__init__(reduction, name, dtype, q=q)

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        check_class_indices(self.name, np.shape(y), output_shape)
        check_indices(self.name, y, output_shape[-1])
