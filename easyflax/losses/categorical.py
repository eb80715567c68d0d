"""Losses for one-hot labels (or any distribution over classes), as functions and as classes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.losses.base import EPSILON, BuiltInLoss
from easyflax.losses.reduction import MEAN, Reduction
from easyflax.losses.shapes import Shape, check_classes, pair
from easyflax.losses.smoothing import check_smoothing, smooth

__all__ = [
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "log_probabilities",
]


def log_probabilities(outputs: jax.Array, axis: int = -1) -> jax.Array:
    """Returns the logarithms of shares, which are divided by their sum and clipped to `[1e-7, 1 - 1e-7]`."""
    shares = outputs / outputs.sum(axis=axis, keepdims=True)
    return jnp.log(jnp.clip(shares, EPSILON, 1 - EPSILON))


@symbolic_aware
def categorical_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> jax.Array:
    """Returns the cross-entropy of distributions over classes.

    Args:
        y_true: one-hot labels or other distributions, `(..., classes)`.
        y_pred: outputs of the same shape; probabilities are divided by their sum and clipped to
            `[1e-7, 1 - 1e-7]`.
        from_logits: whether outputs are logits rather than probabilities.
        label_smoothing: share of each label that is spread evenly over all classes, in `[0, 1]`.
        axis: the axis of the classes.

    Raises:
        ValueError: the shapes differ, or there is one class only.

    Examples:
        >>> categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).round(4)
        Array([0.6931], dtype=float32)
    """
    labels, outputs = _labels_and_outputs("categorical_crossentropy", y_true, y_pred, label_smoothing, axis)
    if from_logits:
        return optax.losses.softmax_cross_entropy(outputs, labels, axis=axis)
    return -jnp.sum(labels * log_probabilities(outputs, axis), axis=axis)


@symbolic_aware
def categorical_focal_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> jax.Array:
    """Returns cross-entropies that count less the surer the output is of a class.

    Args:
        y_true: one-hot labels, `(..., classes)`.
        y_pred: outputs of the same shape.
        alpha: what the loss is multiplied by; a list holds a weight for each class.
        gamma: the power of `1 - probability` by which the cross-entropy of a class is multiplied.
        from_logits: whether outputs are logits rather than probabilities.
        label_smoothing: share of each label that is spread evenly over all classes, in `[0, 1]`.
        axis: the axis of the classes.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """
    name = "categorical_focal_crossentropy"
    labels, outputs = _labels_and_outputs(name, y_true, y_pred, label_smoothing, axis)
    logs = log_probabilities(jax.nn.softmax(outputs, axis) if from_logits else outputs, axis)
    weights = jnp.asarray(alpha) * (1 - jnp.exp(logs)) ** gamma
    return -jnp.sum(weights * labels * logs, axis=axis)


def _labels_and_outputs(
    name: str, y_true: ArrayLike, y_pred: ArrayLike, label_smoothing: float, axis: int
) -> tuple[jax.Array, jax.Array]:
    labels, outputs = pair(name, y_true, y_pred)
    classes = outputs.shape[_integer(axis)]
    check_classes(name, classes)
    return smooth(labels, label_smoothing, classes), outputs


def _integer(axis: int) -> int:
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ValueError(
            f"axis was given as {axis!r}, expected an integer: the axis of the classes. Pass axis=-1 if that "
            "is the last."
        )
    return axis


class _Categorical(BuiltInLoss):
    axis: int

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        super().check_labels(y, output_shape)
        check_classes(self.name, output_shape[self.axis] if len(output_shape) > 1 else 1)


class CategoricalCrossentropy(_Categorical):
    """Cross-entropy of one-hot labels (or any distribution over classes).

    Args:
        from_logits: whether outputs are logits rather than probabilities. None leaves it to
            `resolve`: a model that is compiled with the loss reads it from its own ending.
        label_smoothing: share of each label that is spread evenly over all classes, in `[0, 1]`.
        axis: the axis of the classes.
        reduction: see `Loss`, as are `name` and `dtype`.
        name: the name in logs.
        dtype: of the computation.

    Labels are `(batch, ..., classes)`. Probabilities are divided by their sum and clipped to
    `[1e-7, 1 - 1e-7]`.

    Raises:
        ValueError: `label_smoothing` is outside `[0, 1]`, or `axis` is no integer.

    Source of the smoothing: Szegedy et al. 2016, section 7, https://arxiv.org/abs/1512.00567
    """

    function = staticmethod(categorical_crossentropy)

    def __init__(
        self,
        from_logits: bool | None = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Reduction = MEAN,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
    ):
        check_smoothing(label_smoothing)
        super().__init__(
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=_integer(axis),
        )


class CategoricalFocalCrossentropy(_Categorical):
    """Cross-entropy of one-hot labels that counts less the surer an output is of a class.

    Args:
        alpha: what the loss is multiplied by; a list holds a weight for each class.
        gamma: the power of `1 - probability` by which the cross-entropy of a class is multiplied.
        from_logits: whether outputs are logits rather than probabilities; None as in
            `CategoricalCrossentropy`.
        label_smoothing: share of each label that is spread evenly over all classes, in `[0, 1]`.
        axis: the axis of the classes.
        reduction: see `Loss`, as are `name` and `dtype`.
        name: the name in logs.
        dtype: of the computation.

    Raises:
        ValueError: `label_smoothing` is outside `[0, 1]`, or `axis` is no integer.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """

    function = staticmethod(categorical_focal_crossentropy)

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool | None = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Reduction = MEAN,
        name: str | None = "categorical_focal_crossentropy",
        dtype: Any = None,
    ):
        check_smoothing(label_smoothing)
        super().__init__(
            reduction,
            name,
            dtype,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=_integer(axis),
        )
