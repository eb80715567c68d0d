"""The circle loss for embeddings: rows of one label together, the others apart."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.losses.base import BuiltInLoss
from easyflax.losses.labels import check_whole
from easyflax.losses.reduction import MEAN, Reduction
from easyflax.losses.shapes import Shape, as_numbers, check_rows
from easyflax.masks import attach_masks

__all__ = ["Circle", "circle"]


@symbolic_aware
def circle(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    ref_labels: ArrayLike | None = None,
    ref_embeddings: ArrayLike | None = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> jax.Array:
    """Returns for each embedding how badly it stands to all others; a mask of the result leaves out zeros.

    Args:
        y_true: labels, `(batch,)` or `(batch, 1)`, whole numbers.
        y_pred: embeddings of length one, `(batch, size)`.
        ref_labels: labels of what to compare with, `(others,)`; those of the batch when left out.
        ref_embeddings: what to compare with, `(others, size)`; the batch itself when left out.
        remove_diagonal: whether entry `i` of the batch is not compared with entry `i` of the others.
        gamma: what weighted similarities are multiplied by.
        margin: how far from the ideal similarity counts as good enough.

    Raises:
        ValueError: labels and embeddings do not fit.

    Source: Sun et al. 2020, https://arxiv.org/abs/2002.10857
    """
    labels, outputs = _labels_and_embeddings("y_true", y_true, y_pred)
    others = (labels, outputs)
    if ref_labels is not None or ref_embeddings is not None:
        others = _labels_and_embeddings(
            "ref_labels",
            y_true if ref_labels is None else ref_labels,
            y_pred if ref_embeddings is None else ref_embeddings,
        )
    distances = jnp.maximum(1 - outputs @ others[1].T, 0)  # (batch, others)
    same = labels[:, None] == others[0][None, :]
    positive = same & ~jnp.eye(*same.shape, dtype=bool) if remove_diagonal else same
    far = -gamma * (margin + distances) * (margin - distances)
    near = gamma * jnp.maximum(1 + margin - distances, 0) * (1 - margin - distances)
    values = jax.nn.softplus(_logsumexp(far, positive) + _logsumexp(near, ~same))
    attach_masks(values, values > 0)
    return values


def _logsumexp(scores: jax.Array, chosen: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(jnp.where(chosen, scores, -jnp.inf), axis=1)


def _labels_and_embeddings(
    what: str, labels: ArrayLike, embeddings: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    labels, embeddings = as_numbers("circle", "labels", labels), as_numbers("circle", "outputs", embeddings)
    _check_shapes("circle", what, labels.shape, embeddings.shape)
    check_rows("circle", labels.shape, embeddings.shape)
    dtype = jnp.promote_types(embeddings.dtype, jnp.float32)
    return labels.reshape(-1).astype(jnp.int32), embeddings.astype(dtype)


def _check_shapes(name: str, what: str, labels: Shape, embeddings: Shape) -> None:
    labels, embeddings = tuple(labels), tuple(embeddings)
    if len(embeddings) != 2 or not labels or labels[1:] not in ((), (1,)):
        raise ValueError(
            f"{name}: {what} has shape {labels} and the embeddings {embeddings}, expected one label for each "
            "row of embeddings (n, size). Pass labels of shape (n,), and let the model return a vector a row."
        )


class Circle(BuiltInLoss):
    """Draws embeddings of one label together and others apart, each pair by how far it is from ideal.

    Args:
        gamma: what weighted similarities are multiplied by.
        margin: how far from the ideal similarity counts as good enough.
        remove_diagonal: whether an embedding is not compared with itself.
        reduction: see `Loss`, as are `name` and `dtype`. Rows of loss zero are not in the divisor.
        name: the name in logs.
        dtype: of the computation.

    Labels are whole numbers `(batch,)`, outputs vectors of length one `(batch, size)`. A row's loss depends
    on all others, so that padding cannot be left out.

    Source: Sun et al. 2020, https://arxiv.org/abs/2002.10857
    """

    function = staticmethod(circle)

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: Reduction = MEAN,
        name: str | None = "circle",
        dtype: Any = None,
    ):
        super().__init__(reduction, name, dtype, gamma=gamma, margin=margin, remove_diagonal=remove_diagonal)

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        super().is_row_wise(y_true, y_pred)  # raises if they do not fit
        return False

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        _check_shapes(self.name, "y", np.shape(y), output_shape)
        check_whole(self.name, y, "labels")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> jax.Array:
        if mask is not None:
            raise ValueError(
                f"Loss {self.name!r} was given a mask of rows, expected none: each row is compared with all "
                "others, so that none can be left out. Leave the rows out of y_true and y_pred."
            )
        return super().__call__(y_true, y_pred, sample_weight)
