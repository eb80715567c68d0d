"""What a loss is: values for each element, reduced to one number a row and to one number a batch.

A loss is a pure function of labels and outputs with a name, made from three steps. `call` computes a value
for each element (the last axis is gone, as in Keras). `per_row` averages those of each row. `__call__` weighs
the rows, leaves out the rows that only pad the batch, and reduces to a scalar.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.losses.shapes import Shape, align, check_same_shape
from easyflax.naming import snake_case

__all__ = ["ElementwiseLoss", "FunctionLoss", "Loss"]

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none")


class Loss:
    """The base class of all losses; subclass it and define `call`.

    Args:
        reduction: how the values of a batch become one number. `"sum_over_batch_size"` (also `"mean"`)
            divides the weighted sum by the number of values, `"mean_with_sample_weight"` by the sum of the
            weights, `"sum"` by nothing. `"none"` or `None` returns the values themselves, and cannot be
            trained on.
        name: the name in logs; the class's name in snake case when left out.

    Raises:
        ValueError: `reduction` is unknown.
    """

    from_logits: bool | None = False
    reduction: str = "sum_over_batch_size"

    def __init__(self, *, reduction: str | None = "sum_over_batch_size", name: str | None = None):
        reduction = "none" if reduction is None else reduction
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"reduction={reduction!r} is unknown: expected one of {', '.join(map(repr, REDUCTIONS))}. "
                "Pass one of these, or leave it out for the mean over the batch."
            )
        self.reduction = reduction
        self.name = name or snake_case(type(self).__name__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    def call(self, y_true: Any, y_pred: Any) -> jax.Array:
        """Returns the loss of each element, `(batch, ...)`; for subclasses to define."""
        raise NotImplementedError(
            f"{type(self).__name__} has no `call`, expected a method call(self, y_true, y_pred). "
            "Define it; it returns one value a row."
        )

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        """Checks labels on the host before the first step; a loss of one's own may refuse what it cannot use.

        Args:
            y: all labels of a data set, `(rows, ...)`.
            output_shape: the shape of the model's output, with its batch axis.
        """
        del y, output_shape  # what labels fit is known to the subclasses only

    def resolve(self, *, from_logits: bool) -> Loss:
        """Returns this loss with `from_logits` decided, where it was left open; else itself."""
        if self.from_logits is not None:
            return self
        resolved = copy.copy(self)
        resolved.from_logits = from_logits
        return resolved

    def values(self, y_true: Any, y_pred: Any) -> jax.Array:
        """Returns the loss of each element, `(batch, ...)`, in float32 or wider."""
        values = jnp.asarray(self.call(y_true, y_pred))
        return values.astype(jnp.promote_types(values.dtype, jnp.float32))

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        """Returns whether the loss gives values for each row, so that rows can be left out; computes nothing.

        Args:
            y_true: labels, arrays or `jax.ShapeDtypeStruct`s.
            y_pred: outputs, likewise.
        """
        values = jax.eval_shape(self.values, y_true, y_pred)
        return values.ndim > 0 and values.shape[0] == _batch_size(y_pred)

    def per_row(self, y_true: Any, y_pred: Any) -> jax.Array:
        """Returns the loss of each row, `(batch,)`: the mean over all other axes.

        Raises:
            ValueError: labels and outputs do not fit, or the loss does not return one value a row.
        """
        values = self._by_row(self.values(y_true, y_pred), y_pred)
        return values.reshape(values.shape[0], -1).mean(axis=1)

    def __call__(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: jax.Array | None = None,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the loss of a batch.

        Args:
            y_true: labels.
            y_pred: outputs of the model.
            sample_weight: `(batch,)`, or the shape of the values where each element has its own weight.
            mask: `(batch,)`, False for rows that only pad the batch; these count nowhere.

        Returns:
            A scalar; the weighted values when `reduction` is `"none"`.
        """
        values = self.values(y_true, y_pred)
        if mask is None and sample_weight is None:
            return values if self.reduction == "none" else _unweighted(values, self.reduction)
        values = self._by_row(values, y_pred)
        rows = jnp.ones(values.shape[0], bool) if mask is None else jnp.asarray(mask, bool)
        rows = _expand(self.name, "mask", rows, values.shape)
        weight = rows.astype(values.dtype)
        if sample_weight is not None:
            sample_weight = jnp.asarray(sample_weight, values.dtype)
            weight = weight * _expand(self.name, "sample_weight", sample_weight, values.shape)
        # `where`, not only a product: what stands in a padding row may be infinite.
        return _reduce(jnp.where(rows, values, 0), weight, rows, self.reduction)

    def _by_row(self, values: jax.Array, y_pred: Any) -> jax.Array:
        batch = _batch_size(y_pred)
        if values.ndim == 0 or values.shape[0] != batch:
            raise ValueError(
                f"Loss {self.name!r} returned shape {values.shape} for a batch of {batch}, expected "
                f"({batch},) or ({batch}, ...). Return one value a row: leave out the mean over the batch."
            )
        return values


class ElementwiseLoss(Loss):
    """A loss whose labels have the shape of the outputs, a last axis of one element aside."""

    def element(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        """Returns the loss of each element, before the mean over the last axis."""
        raise NotImplementedError

    def call(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return self.element(*align(self.name, y_true, y_pred)).mean(axis=-1)

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        check_same_shape(self.name, np.shape(y), output_shape)


class FunctionLoss(Loss):
    """A plain function `(y_true, y_pred)` that returns one value a row, as a loss."""

    def __init__(self, function: Callable[[Any, Any], jax.Array], *, name: str | None = None):
        super().__init__(name=name or snake_case(getattr(function, "__name__", type(function).__name__)))
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> jax.Array:
        return self.function(y_true, y_pred)


def _batch_size(y_pred: Any) -> int:
    return jax.tree.leaves(y_pred)[0].shape[0]


def _unweighted(values: jax.Array, reduction: str) -> jax.Array:
    return values.sum() if reduction == "sum" else values.mean()


def _reduce(values: jax.Array, weight: jax.Array, rows: jax.Array, reduction: str) -> jax.Array:
    weighted = values * weight
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    counted = weight if reduction == "mean_with_sample_weight" else rows.astype(values.dtype)
    count = jnp.broadcast_to(counted, values.shape).sum()
    return jnp.where(count == 0, 0, weighted.sum() / jnp.where(count == 0, 1, count))


def _expand(name: str, what: str, array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Adds axes of one element until `array` has as many as the values."""
    if array.ndim > 1 and array.shape[-1] == 1 and array.shape != shape[: array.ndim]:
        array = array[..., 0]
    if array.ndim == 0 or array.shape != shape[: array.ndim]:
        raise ValueError(
            f"Loss {name!r}: {what} has shape {array.shape}, expected {shape[:1]} or {shape}. Pass one "
            "number a row."
        )
    return array.reshape(array.shape + (1,) * (len(shape) - array.ndim))
