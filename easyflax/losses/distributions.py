"""How far vectors point apart and distributions lie apart, as functions and as classes."""

from __future__ import annotations

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

__all__ = ["CosineSimilarity", "KLDivergence", "cosine_similarity", "kl_divergence"]


@symbolic_aware
def kl_divergence(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns the sum over the last axis of `y_true * log(y_true / y_pred)`, both clipped to `[1e-7, 1]`.

    Examples:
        >>> kl_divergence([[1.0, 0.0]], [[0.5, 0.5]]).round(4)
        Array([0.6931], dtype=float32)
    """
    both = pair("kl_divergence", y_true, y_pred)
    labels, outputs = (jnp.clip(value, EPSILON, 1) for value in both)
    return jnp.sum(labels * jnp.log(labels / outputs), axis=-1)


@symbolic_aware
def cosine_similarity(y_true: ArrayLike, y_pred: ArrayLike, axis: int = -1) -> jax.Array:
    """Returns minus the cosine between vectors: -1 for one direction, 1 for opposite ones, 0 at zero vectors.

    Args:
        y_true: vectors along `axis`.
        y_pred: outputs of the same shape.
        axis: the axis of the vectors.
    """
    labels, outputs = pair("cosine_similarity", y_true, y_pred)
    return -jnp.sum(_unit(labels, axis) * _unit(outputs, axis), axis=axis)


def _unit(vectors: jax.Array, axis: int) -> jax.Array:
    squares = jnp.sum(jnp.square(vectors), axis=axis, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, EPSILON**2))


class KLDivergence(BuiltInLoss):
    """The sum over the last axis of `y_true * log(y_true / y_pred)`, with both clipped to `[1e-7, 1]`."""

    function = staticmethod(kl_divergence)

    def __init__(self, reduction: Reduction = MEAN, name: str | None = "kl_divergence", dtype: Any = None):
        super().__init__(reduction, name, dtype)

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        super().check_labels(y, output_shape)
        check_between(self.name, y, 0, 1, "Pass distributions: shares that sum to one.")


class CosineSimilarity(BuiltInLoss):
    """Minus the cosine between vectors, from -1 for one direction to 1 for opposite ones.

    Args:
        axis: the axis of the vectors.
        reduction: see `Loss`, as are `name` and `dtype`.
        name: the name in logs.
        dtype: of the computation.
    """

    function = staticmethod(cosine_similarity)
    unwritten = ("axis",)

    def __init__(
        self,
        axis: int = -1,
        reduction: Reduction = MEAN,
        name: str | None = "cosine_similarity",
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype, axis=axis)
