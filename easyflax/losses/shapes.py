"""Which labels fit which outputs: the rules that losses and metrics share, and their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "Shape",
    "align",
    "as_numbers",
    "check_class_indices",
    "check_classes",
    "check_rows",
    "check_same_shape",
    "class_indices",
    "classes_last",
    "pair",
    "same_rank",
]

Shape = Sequence[Any]  # sizes, the batch axis first; that one may be None

# No class, and no `ignore_class` of anybody's.
_NO_CLASS = -(2**31)


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


def check_classes(name: str, classes: Any) -> None:
    """Raises if outputs have a single class, along the axis of classes.

    Raises:
        ValueError: `classes`, the size of that axis, is one.
    """
    if classes == 1:
        raise ValueError(
            f"{name}: the last axis of the outputs has one class, expected at least two (one class has no "
            "entropy). Use 'binary_crossentropy' for a single unit."
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


def as_numbers(name: str, what: str, value: Any) -> jax.Array:
    """Returns an array.

    Args:
        name: of the loss, for messages.
        what: `"labels"` or `"outputs"`, likewise.
        value: an array, or lists of numbers.

    Raises:
        TypeError: `value` is a nesting of arrays, None, or holds no numbers.
    """
    if isinstance(value, Mapping) or value is None:
        keys = "None" if value is None else f"a dict with the keys {sorted(map(str, value))}"
        raise TypeError(
            f"{name}: the {what} are {keys}, expected one array. Pass one of them, or compile the model with "
            "a loss for each output."
        )
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        kind = f"of dtype {value.dtype}" if hasattr(value, "dtype") else f"a {type(value).__name__}"
        raise TypeError(
            f"{name}: the {what} are {kind}, expected an array of numbers. Number classes that have names, "
            "and let all rows have one length."
        ) from error


def pair(name: str, y_true: Any, y_pred: Any) -> tuple[jax.Array, jax.Array]:
    """Returns labels and outputs as floating arrays of one shape.

    A last axis of one element that only one of them has is left out, or added to the other if that has one
    axis only. Half-precision outputs are raised to float32, so that a loss is not computed in bfloat16.

    Raises:
        ValueError: the shapes do not fit.
    """
    y_true, y_pred = as_numbers(name, "labels", y_true), as_numbers(name, "outputs", y_pred)
    check_same_shape(name, y_true.shape, y_pred.shape)
    check_rows(name, y_true.shape, y_pred.shape)
    dtype = jnp.promote_types(y_pred.dtype, jnp.float32)
    return same_rank(y_true.astype(dtype), y_pred.astype(dtype))


def check_rows(name: str, y_shape: Shape, output_shape: Shape) -> None:
    """Raises unless the labels and outputs of a batch have as many rows.

    Raises:
        ValueError: they have not.
    """
    if tuple(y_shape[:1]) != tuple(output_shape[:1]):
        raise ValueError(
            f"{name}: labels have shape {tuple(y_shape)} and outputs {tuple(output_shape)}, expected as many "
            "labels as outputs: nothing is broadcast. Pass labels and outputs of the same batch."
        )


def align(name: str, y_true: Any, y_pred: Any) -> tuple[jax.Array, jax.Array]:
    """Returns labels and outputs as floating arrays of one shape with at least two axes, see `pair`."""
    y_true, y_pred = pair(name, y_true, y_pred)
    if y_true.ndim > 1:
        return y_true, y_pred
    return y_true.reshape(-1, 1), y_pred.reshape(-1, 1)


def same_rank(y_true: jax.Array, y_pred: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both without a last axis of one element that only one of them has, or `(n,)` as `(n, 1)`."""
    if y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        return (y_true, y_pred[:, None]) if y_pred.ndim == 1 else (y_true[..., 0], y_pred)
    if y_pred.ndim == y_true.ndim + 1 and y_pred.shape[-1] == 1:
        return (y_true[:, None], y_pred) if y_true.ndim == 1 else (y_true, y_pred[..., 0])
    return y_true, y_pred


def class_indices(name: str, y_true: Any, y_pred: Any) -> tuple[jax.Array, jax.Array]:
    """Returns int32 class indices `(batch, ...)` and floating scores `(batch, ..., classes)`.

    Labels may be whole numbers of a floating dtype; one that is not whole becomes a number below all classes.

    Raises:
        ValueError: the shapes do not fit.
    """
    y_true, y_pred = as_numbers(name, "labels", y_true), as_numbers(name, "outputs", y_pred)
    check_class_indices(name, y_true.shape, y_pred.shape)
    check_rows(name, y_true.shape, y_pred.shape)
    if jnp.issubdtype(y_true.dtype, jnp.floating):
        y_true = jnp.where(y_true == jnp.floor(y_true), y_true, _NO_CLASS)
    y_true = y_true.reshape(y_pred.shape[:-1]).astype(jnp.int32)
    return y_true, y_pred.astype(jnp.promote_types(y_pred.dtype, jnp.float32))


def classes_last(y_shape: Shape, output_shape: Shape, axis: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Returns the shapes of class indices and of scores once the scores' `axis` is moved to the end."""
    y_shape, output_shape = tuple(y_shape), tuple(output_shape)
    axis = axis % len(output_shape)
    moved = (*output_shape[:axis], *output_shape[axis + 1 :], output_shape[axis])
    if len(y_shape) == len(output_shape) and y_shape[axis] == 1:
        y_shape = (*y_shape[:axis], *y_shape[axis + 1 :])
    return y_shape, moved


def _rows(shape: Shape) -> str:
    """Spells a shape with its batch axis as `n`."""
    row = ", ".join(str(size) for size in shape[1:])
    return f"(n, {row})" if row else "(n,)"
