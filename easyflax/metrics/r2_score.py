"""The coefficient of determination."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.losses.shapes import align
from easyflax.metrics.base import Metric
from easyflax.metrics.weights import weights_like

__all__ = ["R2Score"]

_AGGREGATIONS = (None, "uniform_average", "variance_weighted_average")


class R2Score(Metric):
    """The share of the targets' variance that outputs explain: 1 at best, 0 for the mean of all targets.

    A target without variance scores 0 where outputs miss it, and NaN where they hit.

    Args:
        class_aggregation: how the scores of several targets become one: `"uniform_average"`,
            `"variance_weighted_average"`, or None for a score for each.
        num_regressors: for the adjusted score, how many variables the model reads; 0 for the plain one, which
            stands in where there are too few rows.
        name: the name in logs.
        dtype: as in `Metric`.

    Raises:
        ValueError: an argument is none of these.

    Examples:
        >>> metric = R2Score()
        >>> metric.update_state([[1.0], [4.0], [3.0]], [[2.0], [4.0], [4.0]])
        >>> round(float(metric.result()), 4)
        0.5714
    """

    _weight_zero_leaves_out = True
    _direction = "up"

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if class_aggregation not in _AGGREGATIONS:
            raise ValueError(
                f"class_aggregation is {class_aggregation!r}, expected one of {_AGGREGATIONS}. Pass one of "
                "them."
            )
        if num_regressors < 0:
            raise ValueError(
                f"num_regressors={num_regressors} is negative, expected how many variables the model reads. "
                "Leave it out for the plain score."
            )
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_total(name="num_samples")
        self._built = False

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        """Returns whether rows of weight zero count nowhere: the adjusted score counts rows, as Keras's."""
        return self.num_regressors == 0 and super().is_row_wise(y_true, y_pred)

    def build_for(self, y_true: Any, y_pred: Any) -> None:
        """Makes the variables for so many targets as `y_pred` has, where there are none yet.

        Raises:
            ValueError: outputs are not `(batch,)` or `(batch, targets)`.
        """
        if self._built:
            return
        shape = np.shape(y_pred)
        if len(shape) not in (1, 2):
            raise ValueError(
                f"{self.name}: outputs have shape {shape}, expected (batch, targets). Reshape them."
            )
        self._note_build(y_true, y_pred)
        targets = shape[1:] or (1,)
        self.squared_sum = self.add_total(targets, name="squared_sum")
        self.sum = self.add_total(targets, name="sum")
        self.total_mse = self.add_total(targets, name="residual")
        self.count = self.add_total(targets, name="count")
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: `(batch, targets)`, or `(batch,)` for one.
            y_pred: of the same shape.
            sample_weight: None, `(batch,)` or the shape of the targets.

        Raises:
            ValueError: targets, outputs and weights do not fit.
        """
        self.build_for(y_true, y_pred)
        targets, outputs = align(self.name, y_true, y_pred)
        weight = weights_like(self.name, 1.0 if sample_weight is None else sample_weight, targets.shape)
        assert weight is not None
        amounts = (targets**2, targets, (targets - outputs) ** 2, jnp.ones_like(targets))
        sums = (self.squared_sum, self.sum, self.total_mse, self.count)
        for variable, amount in zip(sums, amounts, strict=True):
            variable.assign_add(jnp.where(weight == 0, 0, amount * weight).sum(axis=0))
        self.num_samples.assign_add(targets.size)

    def result(self) -> jax.Array:
        """Returns the score: a scalar, or `(targets,)` without aggregation."""
        if not self._built:
            return jnp.zeros(())
        variance = self.squared_sum - self.sum * (self.sum / self.count)  # times the weight of all rows
        scores = 1 - self.total_mse / variance
        scores = jnp.where(jnp.isinf(scores), 0, scores)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = (variance * scores).sum() / variance.sum()
        return scores if self.num_regressors == 0 else self._adjusted(scores)

    def _adjusted(self, scores: jax.Array) -> jax.Array:
        rows, freedom = self.num_samples - 1, self.num_samples - self.num_regressors - 1
        adjusted = 1 - (1 - scores) * rows / jnp.where(freedom > 0, freedom, 1)
        return jnp.where(freedom > 0, adjusted, scores)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        own = {"class_aggregation": self.class_aggregation, "num_regressors": self.num_regressors}
        return {**super().get_config(), **own}
