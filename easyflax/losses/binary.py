"""Losses for independent yes-or-no labels, as functions and as classes, under Keras's names."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.losses.base import EPSILON, ElementwiseLoss
from easyflax.losses.labels import check_between
from easyflax.losses.reduction import MEAN, Reduction
from easyflax.losses.shapes import Shape, pair
from easyflax.losses.smoothing import check_smoothing, smooth

__all__ = [
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
]


@symbolic_aware
def binary_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> jax.Array:
    """Returns the mean cross-entropy over `axis` of labels from 0 to 1.

    Args:
        y_true: labels.
        y_pred: outputs, of the labels' shape; probabilities are clipped to `[1e-7, 1 - 1e-7]`.
        from_logits: whether outputs are logits rather than probabilities.
        label_smoothing: share of each label that is replaced by one half, in `[0, 1]`.
        axis: the axis of the mean.

    Examples:
        >>> binary_crossentropy([[1.0, 0.0]], [[0.5, 0.5]]).round(4)
        Array([0.6931], dtype=float32)
    """
    labels, outputs = pair("binary_crossentropy", y_true, y_pred)
    labels = smooth(labels, label_smoothing, 2)
    if from_logits:
        values = optax.losses.sigmoid_binary_cross_entropy(outputs, labels)
    else:
        values = _crossentropies(labels, outputs)
    return values.mean(axis=axis)


@symbolic_aware
def binary_focal_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> jax.Array:
    """Returns the mean over `axis` of cross-entropies that count less the surer the output is of its label.

    Args:
        y_true: labels from 0 to 1.
        y_pred: outputs, of the labels' shape.
        apply_class_balancing: whether label 1 weighs `alpha`, and label 0 `1 - alpha`.
        alpha: the weight of label 1, in `[0, 1]`.
        gamma: the power of `1 - probability of the label` by which the cross-entropy is multiplied.
        from_logits: whether outputs are logits rather than probabilities.
        label_smoothing: share of each label that is replaced by one half, in `[0, 1]`.
        axis: the axis of the mean.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """
    labels, outputs = pair("binary_focal_crossentropy", y_true, y_pred)
    labels = smooth(labels, label_smoothing, 2)
    outputs = jax.nn.sigmoid(outputs) if from_logits else outputs
    at_label = labels * outputs + (1 - labels) * (1 - outputs)
    values = (1 - at_label) ** gamma * _crossentropies(labels, outputs)
    if apply_class_balancing:
        values = (labels * alpha + (1 - labels) * (1 - alpha)) * values
    return values.mean(axis=axis)


def _crossentropies(labels: jax.Array, probabilities: jax.Array) -> jax.Array:
    probabilities = jnp.clip(probabilities, EPSILON, 1 - EPSILON)
    return -labels * jnp.log(probabilities) - (1 - labels) * jnp.log1p(-probabilities)


class _Binary(ElementwiseLoss):
    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        super().check_labels(y, output_shape)
        advice = "Map the two classes to 0 and 1, or use 'sparse_categorical_crossentropy' for more classes."
        check_between(self.name, y, 0, 1, advice)


class BinaryCrossentropy(_Binary):
    """Cross-entropy of independent yes-or-no labels.

    Args:
        from_logits: whether outputs are logits rather than probabilities. None leaves it to
            `resolve`: a model that is compiled with the loss reads it from its own ending.
        label_smoothing: share of each label that is replaced by one half, in `[0, 1]`.
        axis: the axis of the mean.
        reduction: see `Loss`, as are `name` and `dtype`.
        name: the name in logs.
        dtype: of the computation.

    Labels are in `[0, 1]` and have the shape of the outputs; probabilities are clipped to `[1e-7, 1 - 1e-7]`.

    Raises:
        ValueError: `label_smoothing` is outside `[0, 1]`.
    """

    function = staticmethod(binary_crossentropy)

    def __init__(
        self,
        from_logits: bool | None = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Reduction = MEAN,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
    ):
        check_smoothing(label_smoothing)
        super().__init__(
            reduction, name, dtype, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis
        )


class BinaryFocalCrossentropy(_Binary):
    """Cross-entropy of yes-or-no labels that counts less the surer an output is of its label.

    Args:
        apply_class_balancing: whether label 1 weighs `alpha`, and label 0 `1 - alpha`.
        alpha: the weight of label 1, in `[0, 1]`.
        gamma: the power of `1 - probability of the label` by which the cross-entropy is multiplied.
        from_logits: whether outputs are logits rather than probabilities; None as in `BinaryCrossentropy`.
        label_smoothing: share of each label that is replaced by one half, in `[0, 1]`.
        axis: the axis of the mean.
        reduction: see `Loss`, as are `name` and `dtype`.
        name: the name in logs.
        dtype: of the computation.

    Raises:
        ValueError: `label_smoothing` is outside `[0, 1]`.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """

    function = staticmethod(binary_focal_crossentropy)

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool | None = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Reduction = MEAN,
        name: str | None = "binary_focal_crossentropy",
        dtype: Any = None,
    ):
        check_smoothing(label_smoothing)
        super().__init__(
            reduction,
            name,
            dtype,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )
