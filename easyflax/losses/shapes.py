"""Which labels fit which outputs: the rules that losses and metrics share, and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Shape", "align", "check_class_indices", "check_integer", "check_same_shape", "class_indices"]

Shape = Sequence[Any]  # sizes, the batch axis first; that one may be None


def check_same_shape(name: str, y_shape: Shape, output_shape: Shape) -> None:
    """Raises unless labels and outputs have one shape, a last axis of one element aside.

    Nothing is broadcast: `(n, 1)` labels against `(n, 4)` outputs is an error, `(n,)` against `(n, 1)` is
    not. The batch axis, the first, is left to the caller.

    Raises:
        ValueError: the shapes do not fit; the message names the loss that would.
    """
    y_row, output_row = tuple(y_shape[1:]), tuple(output_shape[1:])
    if y_row == output_row or (*y_row, 1) == output_row or y_row == (*output_row, 1):
        return
    if output_row and output_row[-1] != 1 and y_row in (output_row[:-1], (*output_row[:-1], 1)):
        advice = (
            "If the labels are class indices, use 'sparse_categorical_crossentropy' (metric: "
            "'sparse_categorical_accuracy'); otherwise let the model end in one unit."
        )
    else:
        advice = "Reshape the labels, or change the model's last layer to fit them."
    raise ValueError(
        f"{name}: labels have shape {_rows(y_shape)} and outputs {_rows(output_shape)}, "
        f"expected labels of shape {_rows(output_shape)}. {advice}"
    )


def check_class_indices(name: str, y_shape: Shape, output_shape: Shape) -> None:
    """Raises unless labels hold one class index for each vector of class scores in the outputs.

    Raises:
        ValueError: the shapes do not fit; the message names the loss that would.
    """
    y_row, output_row = tuple(y_shape[1:]), tuple(output_shape[1:])
    fits = output_row and y_row in (output_row[:-1], (*output_row[:-1], 1))
    if fits and output_row[-1] != 1:
        return
    if y_row == output_row and output_row and output_row[-1] != 1:
        advice = (
            "If the labels are one-hot, use 'categorical_crossentropy' (metric: 'categorical_accuracy'), "
            "or pass labels.argmax(-1)."
        )
    elif fits or not output_row:
        advice = (
            "With a single output unit use 'binary_crossentropy' (metric: 'binary_accuracy'), or let the "
            "model end in one unit for each class."
        )
    else:
        advice = "Pass one class index for each vector of class scores."
    raise ValueError(
        f"{name}: labels have shape {_rows(y_shape)} and outputs {_rows(output_shape)}, expected class "
        f"indices of shape {_rows(tuple(output_shape[:-1]) or (None,))} and at least two classes on the last "
        f"axis of the outputs. {advice}"
    )


def align(name: str, y_true: jax.Array, y_pred: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns labels and outputs as floating arrays of one shape with at least two axes.

    Half-precision outputs are raised to float32, so that a loss is not computed in bfloat16.
    """
    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
    check_same_shape(name, y_true.shape, y_pred.shape)
    dtype = jnp.promote_types(y_pred.dtype, jnp.float32)
    shape = max(y_true.shape, y_pred.shape, key=len)  # the one that still has its last axis of one
    shape = shape if len(shape) > 1 else (*shape, 1)
    return y_true.reshape(shape).astype(dtype), y_pred.reshape(shape).astype(dtype)


def class_indices(name: str, y_true: jax.Array, y_pred: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns int32 class indices `(batch, ...)` and floating scores `(batch, ..., classes)`.

    Raises:
        ValueError: the labels are not integers, or the shapes do not fit.
    """
    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
    check_class_indices(name, y_true.shape, y_pred.shape)
    check_integer(name, y_true.dtype)
    y_true = y_true.reshape(y_pred.shape[:-1]).astype(jnp.int32)
    return y_true, y_pred.astype(jnp.promote_types(y_pred.dtype, jnp.float32))


def check_integer(name: str, dtype: np.dtype, seen: str = "") -> None:
    """Raises unless `dtype` can hold class indices."""
    if not (jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)):
        raise ValueError(
            f"{name}: labels are {dtype}{seen}, expected integer class indices. Pass labels.astype('int32') "
            "if they are whole numbers, or a loss for continuous targets such as 'mse'."
        )


def _rows(shape: Shape) -> str:
    """Spells a shape with its batch axis as `n`."""
    row = ", ".join(str(size) for size in shape[1:])
    return f"(n, {row})" if row else "(n,)"
