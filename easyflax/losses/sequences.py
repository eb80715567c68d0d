"""Connectionist temporal classification: labels of a sequence without their places in it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.losses.base import BuiltInLoss
from easyflax.losses.labels import check_indices
from easyflax.losses.reduction import MEAN, Reduction
from easyflax.losses.shapes import Shape, as_numbers, check_rows

__all__ = ["CTC", "ctc"]


@symbolic_aware
def ctc(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Returns minus the log-probability of the labels, summed over all their alignments, `(batch,)`.

    Args:
        y_true: classes from 1, padded with 0 at the end, `(batch, length)`.
        y_pred: logits `(batch, steps, classes)`; class 0 is the blank.

    Raises:
        ValueError: the shapes do not fit.

    Source: Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf
    """
    labels, logits = as_numbers("ctc", "labels", y_true), as_numbers("ctc", "outputs", y_pred)
    _check_shapes("ctc", labels.shape, logits.shape)
    check_rows("ctc", labels.shape, logits.shape)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    labels = labels.astype(jnp.int32)
    lengths = jnp.sum(labels != 0, axis=-1, keepdims=True)
    paddings = (jnp.arange(labels.shape[1]) >= lengths).astype(logits.dtype)
    return optax.losses.ctc_loss(logits, jnp.zeros(logits.shape[:2], logits.dtype), labels, paddings)


def _check_shapes(name: str, y_shape: Shape, output_shape: Shape) -> None:
    y_shape, output_shape = tuple(y_shape), tuple(output_shape)
    if len(y_shape) != 2 or len(output_shape) != 3:
        raise ValueError(
            f"{name}: labels have shape {y_shape} and outputs {output_shape}, expected labels (n, length), "
            "padded with 0, and logits (n, steps, classes). Reshape them, or let the model return a sequence."
        )


class CTC(BuiltInLoss):
    """Connectionist temporal classification, for labels without their places in a sequence of outputs.

    Labels are classes from 1, padded with 0 at the end, `(batch, length)`; outputs are logits
    `(batch, steps, classes)`, class 0 the blank.

    Source: Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf
    """

    function = staticmethod(ctc)

    def __init__(self, reduction: Reduction = MEAN, name: str | None = "ctc", dtype: Any = None):
        super().__init__(reduction, name, dtype)

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        _check_shapes(self.name, np.shape(y), output_shape)
        check_indices(self.name, y, output_shape[-1])
