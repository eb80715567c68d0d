"""Losses for the overlap of predicted and true regions, as functions and as classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.losses.base import EPSILON, BuiltInLoss
from easyflax.losses.labels import check_between
from easyflax.losses.reduction import MEAN, Reduction
from easyflax.losses.shapes import Shape, pair

__all__ = ["Dice", "Tversky", "dice", "tversky"]

Axes = int | Sequence[int] | None


@symbolic_aware
def dice(y_true: ArrayLike, y_pred: ArrayLike, axis: Axes = None) -> jax.Array:
    """Returns one minus twice the intersection over the sum of both areas.

    Args:
        y_true: labels from 0 to 1.
        y_pred: probabilities of the same shape.
        axis: the axes of a region; all of them, the batch too, when left out.

    Examples:
        >>> dice([[1.0, 0.0]], [[0.5, 0.5]], axis=-1)
        Array([0.5], dtype=float32)
    """
    labels, outputs = pair("dice", y_true, y_pred)
    axis = _axes(axis)
    areas = jnp.sum(labels, axis=axis) + jnp.sum(outputs, axis=axis)
    return 1 - 2 * jnp.sum(labels * outputs, axis=axis) / (areas + EPSILON)


@symbolic_aware
def tversky(
    y_true: ArrayLike, y_pred: ArrayLike, alpha: float = 0.5, beta: float = 0.5, axis: Axes = None
) -> jax.Array:
    """Returns one minus the intersection over itself plus the weighted areas that only one of them has.

    Args:
        y_true: labels from 0 to 1.
        y_pred: probabilities of the same shape.
        alpha: the weight of what the labels have and the outputs miss.
        beta: the weight of what the outputs have and the labels do not.
        axis: the axes of a region; all of them, the batch too, when left out.

    Source: Salehi et al. 2017, https://arxiv.org/abs/1706.05721
    """
    labels, outputs = pair("tversky", y_true, y_pred)
    axis = _axes(axis)
    both = jnp.sum(labels * outputs, axis=axis)
    missed = jnp.sum((1 - outputs) * labels, axis=axis)
    invented = jnp.sum(outputs * (1 - labels), axis=axis)
    return 1 - both / (both + missed * alpha + invented * beta + EPSILON)


def _axes(axis: Axes) -> int | tuple[int, ...] | None:
    return axis if axis is None or isinstance(axis, int) else tuple(axis)


class _Overlap(BuiltInLoss):
    _advice_for_rows = "Pass axis= to have one value a row, such as axis=(1, 2, 3) for images."

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        super().check_labels(y, output_shape)
        check_between(self.name, y, 0, 1, "Divide masks of 0 and 255 by 255, and make classes one-hot.")


class Dice(_Overlap):
    """One minus twice the intersection of labels and outputs over the sum of their areas.

    Args:
        reduction: see `Loss`, as are `name` and `dtype`.
        name: the name in logs.
        axis: the axes of a region, such as `(1, 2, 3)` for images; when left out, the whole batch is one
            region, and there is one value for it, which rows can neither be weighted in nor left out of.
        dtype: of the computation.
    """

    function = staticmethod(dice)

    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "dice", axis: Axes = None, dtype: Any = None
    ):
        super().__init__(reduction, name, dtype, axis=axis)


class Tversky(_Overlap):
    """`Dice` with separate weights for what the outputs miss and what they have too much.

    Args:
        alpha: the weight of what the labels have and the outputs miss.
        beta: the weight of what the outputs have and the labels do not.
        reduction: see `Loss`, as are `name` and `dtype`.
        name: the name in logs.
        axis: as for `Dice`.
        dtype: of the computation.

    Source: Salehi et al. 2017, https://arxiv.org/abs/1706.05721
    """

    function = staticmethod(tversky)

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: Reduction = MEAN,
        name: str | None = "tversky",
        axis: Axes = None,
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)
