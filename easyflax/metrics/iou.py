"""Intersection over union of predicted and true classes, for segmentation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.losses.shapes import same_rank
from easyflax.metrics.base import Metric
from easyflax.metrics.confusion_matrix import matrix_of
from easyflax.metrics.weights import weights_like

__all__ = ["BinaryIoU", "IoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU"]

_EPSILON = 1e-7


class IoU(Metric):
    """The mean over some classes of true positives divided by all that are predicted or true.

    Classes that are neither predicted nor true are left out of the mean.

    Args:
        num_classes: how many classes there are.
        target_class_ids: the classes to average over.
        name: the name in logs.
        dtype: of the counts; as integers, the default, they take weights as whole numbers.
        ignore_class: a label that is left out, such as -1 or 255.
        sparse_y_true: whether labels are class indices; else one-hot vectors or scores.
        sparse_y_pred: likewise for outputs.
        axis: that of the classes, where there is one.

    Raises:
        ValueError: a class id is outside of the classes.

    Examples:
        >>> metric = IoU(num_classes=2, target_class_ids=[0])
        >>> metric.update_state([0, 0, 1, 1], [0, 1, 0, 1])
        >>> round(float(metric.result()), 4)
        0.3333
    """

    _weight_zero_leaves_out = True
    _direction = "up"

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(name=name, dtype="int32" if dtype in (None, "int") else dtype)
        wrong = [target for target in target_class_ids if not 0 <= target < num_classes]
        if wrong:
            raise ValueError(
                f"target_class_ids has {wrong[0]}, expected indices from 0 to {num_classes - 1} for "
                f"{num_classes} classes. Pass others, or more classes."
            )
        self.num_classes = num_classes
        self.target_class_ids = [int(target) for target in target_class_ids]
        self.ignore_class = ignore_class
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self.total_cm = self.add_total((num_classes, num_classes), "total_confusion_matrix")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: class indices of any shape; or one-hot, with an axis of classes.
            y_pred: class indices of the same shape; or scores, with an axis of classes.
            sample_weight: None, `(batch,)` or the shape of the class indices.

        Raises:
            ValueError: labels, outputs and weights do not fit.
        """
        labels = self._classes(y_true, self.sparse_y_true)
        predictions = self._classes(y_pred, self.sparse_y_pred)
        labels, predictions = same_rank(labels, predictions)
        if labels.shape != predictions.shape:
            raise ValueError(
                f"{self.name}: class indices have shape {labels.shape} in labels and {predictions.shape} in "
                "outputs, expected one shape. Pass indices, or tell by sparse_y_true=False and "
                "sparse_y_pred=False that there is an axis of classes."
            )
        weights = self._whole(weights_like(self.name, sample_weight, labels.shape), sample_weight)
        if self.ignore_class is not None:
            labels = jnp.where(labels == self.ignore_class, -1, labels)
        self.total_cm.assign_add(matrix_of(labels, predictions, weights, self.num_classes))

    def result(self) -> jax.Array:
        """Returns the mean over the classes that occur, a float32 scalar."""
        matrix, targets = self.total_cm.get_value(), jnp.asarray(self.target_class_ids)
        both = jnp.diag(matrix)
        either = (matrix.sum(axis=0) + matrix.sum(axis=1) - both)[targets]
        occurs = either > 1e-9
        shares = jnp.where(occurs, both[targets] / (either + _EPSILON), 0)
        return shares.sum() / (occurs.sum() + _EPSILON)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        own = {
            "num_classes": self.num_classes,
            "target_class_ids": self.target_class_ids,
            "ignore_class": self.ignore_class,
            "sparse_y_true": self.sparse_y_true,
            "sparse_y_pred": self.sparse_y_pred,
            "axis": self.axis,
        }
        return {**super().get_config(), **own}

    def _classes(self, y: Any, is_sparse: bool) -> jax.Array:
        y = jnp.asarray(y)
        return (y if is_sparse else y.argmax(axis=self.axis)).astype(jnp.int32)

    def _whole(self, weights: jax.Array | None, given: Any) -> jax.Array | None:
        """Returns weights as integers where the counts are such."""
        if weights is None or not jnp.issubdtype(self.dtype, jnp.integer):
            return weights
        if jnp.issubdtype(jnp.asarray(given).dtype, jnp.floating):
            warnings.warn(
                f"{self.name} takes weights as whole numbers, and these are floating: what is behind the "
                "point is cut off. Pass dtype='float32' to the metric to keep it.",
                stacklevel=3,
            )
        return weights.astype(jnp.int32)


class BinaryIoU(IoU):
    """`IoU` of two classes, where the outputs are probabilities of class 1.

    Args:
        target_class_ids: the classes to average over: 0, 1 or both.
        threshold: outputs of at least this are class 1.
        name: the name in logs.
        dtype: see `IoU`.
    """

    _weight_zero_leaves_out = True

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; labels are 0 or 1, and outputs numbers of the same shape."""
        super().update_state(y_true, jnp.asarray(y_pred) >= self.threshold, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        config = super().get_config()
        own = {key: config[key] for key in ("name", "dtype", "target_class_ids")}
        return {**own, "threshold": self.threshold}


class MeanIoU(IoU):
    """`IoU` averaged over all classes; arguments as there.

    Examples:
        >>> metric = MeanIoU(num_classes=2)
        >>> metric.update_state([0, 0, 1, 1], [0, 1, 0, 1])
        >>> round(float(metric.result()), 4)
        0.3333
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        targets = range(num_classes)
        super().__init__(num_classes, targets, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        return _without(super().get_config(), "target_class_ids")


class OneHotIoU(IoU):
    """`IoU` with one-hot labels, and scores for each class as outputs; arguments as there."""

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        return _without(super().get_config(), "sparse_y_true")


class OneHotMeanIoU(MeanIoU):
    """`MeanIoU` with one-hot labels, and scores for each class as outputs; arguments as for `IoU`."""

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        return _without(super().get_config(), "sparse_y_true")


def _without(config: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != key}
