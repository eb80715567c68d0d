"""Losses that leave a margin around the border between classes, as functions and as classes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.losses.base import BuiltInLoss, ElementwiseLoss
from easyflax.losses.labels import check_between
from easyflax.losses.reduction import MEAN, Reduction
from easyflax.losses.shapes import Shape, pair

__all__ = ["CategoricalHinge", "Hinge", "SquaredHinge", "categorical_hinge", "hinge", "squared_hinge"]


@symbolic_aware
def hinge(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns the mean of `max(1 - y_true * y_pred, 0)` over the last axis.

    Args:
        y_true: labels -1 and 1; where all are 0 or 1, 0 stands for -1.
        y_pred: outputs of the same shape.

    Examples:
        >>> hinge([[0.0, 1.0]], [[-2.0, 0.5]])
        Array([0.25], dtype=float32)
    """
    labels, outputs = pair("hinge", y_true, y_pred)
    return optax.losses.hinge_loss(outputs, _signs(labels)).mean(axis=-1)


@symbolic_aware
def squared_hinge(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns the mean of `max(1 - y_true * y_pred, 0) ** 2` over the last axis; labels as for `hinge`."""
    labels, outputs = pair("squared_hinge", y_true, y_pred)
    return jnp.square(optax.losses.hinge_loss(outputs, _signs(labels))).mean(axis=-1)


@symbolic_aware
def categorical_hinge(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns by how much the label's output fails to be 1 above all others.

    Args:
        y_true: one-hot labels, `(..., classes)`.
        y_pred: outputs of the same shape.
    """
    labels, outputs = pair("categorical_hinge", y_true, y_pred)
    at_label = jnp.sum(labels * outputs, axis=-1)
    elsewhere = jnp.max((1 - labels) * outputs, axis=-1)
    return jnp.maximum(elsewhere - at_label + 1, 0)


def _signs(labels: jax.Array) -> jax.Array:
    is_binary = jnp.all((labels == 0) | (labels == 1))
    return jnp.where(is_binary, 2 * labels - 1, labels)


class _Hinge(ElementwiseLoss):
    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        super().check_labels(y, output_shape)
        check_between(self.name, y, -1, 1, "Map the two classes to -1 and 1, or to 0 and 1.")


class Hinge(_Hinge):
    """The mean of `max(1 - y_true * y_pred, 0)`, for labels -1 and 1, or 0 and 1."""

    function = staticmethod(hinge)

    def __init__(self, reduction: Reduction = MEAN, name: str | None = "hinge", dtype: Any = None):
        super().__init__(reduction, name, dtype)


class SquaredHinge(_Hinge):
    """The mean of `max(1 - y_true * y_pred, 0) ** 2`, for labels -1 and 1, or 0 and 1."""

    function = staticmethod(squared_hinge)

    def __init__(self, reduction: Reduction = MEAN, name: str | None = "squared_hinge", dtype: Any = None):
        super().__init__(reduction, name, dtype)


class CategoricalHinge(BuiltInLoss):
    """By how much the output of a one-hot label fails to be 1 above all others."""

    function = staticmethod(categorical_hinge)

    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "categorical_hinge", dtype: Any = None
    ):
        super().__init__(reduction, name, dtype)

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        super().check_labels(y, output_shape)
        check_between(self.name, y, 0, 1, "Pass one-hot labels.")
