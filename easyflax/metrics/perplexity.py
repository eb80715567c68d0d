"""How many classes a model hesitates between, on average: for language models."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import easyflax.losses as losses
from easyflax.masks import mask_of
from easyflax.metrics.base import Metric
from easyflax.metrics.reduction import mean_of
from easyflax.metrics.weights import weights_like, with_mask

__all__ = ["Perplexity"]


class Perplexity(Metric):
    """The exponential of the mean cross-entropy over all tokens that count.

    Args:
        from_logits: whether outputs are logits rather than probabilities.
        ignore_class: a label that counts nowhere, such as that of padding.
        name: the name in logs.
        dtype: of the result.

    Examples:
        >>> metric = Perplexity()
        >>> metric.update_state([[0, 1]], [[[0.25, 0.75], [0.0, 1.0]]])
        >>> round(float(metric.result()), 4)
        2.0
    """

    _weight_zero_leaves_out = True
    _direction = "down"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        name: str | None = "perplexity",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        self.total = self.add_total(name="total")
        self.count = self.add_total(name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: class indices `(batch, ...)`.
            y_pred: outputs `(batch, ..., classes)`; a mask that goes along with them leaves tokens out.
            sample_weight: None, `(batch,)` or the shape of the labels.

        Raises:
            ValueError: labels, outputs and weights do not fit.
        """
        values = losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=self.from_logits, ignore_class=self.ignore_class
        )
        weight = jnp.ones(values.shape) if sample_weight is None else sample_weight
        weight = weights_like(self.name, weight, values.shape)
        for mask in (mask_of(values), mask_of(y_pred)):
            weight = with_mask(weight, mask, values.dtype)
        self.total.assign_add(jnp.where(weight == 0, 0, values * weight).sum())
        self.count.assign_add(weight.sum())

    def result(self) -> jax.Array:
        """Returns the perplexity, a scalar; one before the first token."""
        return jnp.exp(mean_of(self.total, self.count)).astype(self.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        own = {"from_logits": self.from_logits, "ignore_class": self.ignore_class}
        return {**super().get_config(), **own}
