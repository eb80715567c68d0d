"""Small conversions of labels and inputs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

__all__ = ["normalize", "to_categorical"]


def to_categorical(x: ArrayLike, num_classes: int | None = None) -> Any:
    """Returns integer labels as one-hot rows.

    Args:
        x: integers from 0 to `num_classes - 1`, any shape; a last axis of size one is dropped.
        num_classes: how many classes there are; the largest label and one when left out.

    Returns:
        `(..., num_classes)`, float32 for a jax array, else float64 and a NumPy array.

    Raises:
        ValueError: a label is negative or too large, or `num_classes` is left out for a jax array.

    Examples:
        >>> to_categorical([0, 2]).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if isinstance(x, jax.Array):
        return _one_hot_on_device(x, num_classes)
    labels = np.asarray(x).astype("int64")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    classes = num_classes or int(labels.max(initial=-1)) + 1
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"to_categorical was given labels from {labels.min()} to {labels.max()}, expected them from 0 to "
            f"{classes - 1}. Shift the labels, or pass a larger num_classes."
        )
    return (labels[..., None] == np.arange(classes)).astype("float64")


def _one_hot_on_device(labels: jax.Array, num_classes: int | None) -> jax.Array:
    if num_classes is None:
        raise ValueError(
            "to_categorical was given a jax array without num_classes, expected their number: shapes must be "
            "known without looking at values. Pass num_classes=."
        )
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)


def normalize(x: ArrayLike, axis: int = -1, order: int = 2) -> Any:
    """Returns `x` divided by its norm along `axis`; zeros stay zeros.

    Args:
        x: a NumPy or jax array; the same kind comes back.
        axis: the axis along which the norm is taken.
        order: of the norm, as in `numpy.linalg.norm`.

    Examples:
        >>> normalize([[3.0, 4.0], [0.0, 0.0]]).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    xp: Any = jnp if isinstance(x, jax.Array) else np
    norms = xp.linalg.norm(xp.asarray(x), order, axis, keepdims=True)
    return x / xp.where(norms == 0, 1, norms)
