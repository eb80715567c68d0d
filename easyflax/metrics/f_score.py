"""F-scores: precision and recall in one number, for each class or over all."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.losses.shapes import pair
from easyflax.metrics.base import Metric
from easyflax.metrics.weights import weights_like

__all__ = ["F1Score", "FBetaScore"]

_AVERAGES = (None, "micro", "macro", "weighted")
_EPSILON = 1e-7
_KEPT = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")


class FBetaScore(Metric):
    """The weighted harmonic mean of precision and recall, `(1 + beta**2) p r / (beta**2 p + r)`.

    Args:
        average: None for a score for each class; `"micro"` for one over all predictions, `"macro"` for the
            mean over classes, `"weighted"` for that weighted by how often a class is true.
        beta: how much more recall counts than precision; positive.
        threshold: what outputs have to exceed to be positive, in (0, 1]; None: the largest of each row is.
        name: the name in logs.
        dtype: of the result.

    Raises:
        ValueError: an argument is none of these.

    Examples:
        >>> metric = FBetaScore(average="macro", beta=2.0, threshold=0.5)
        >>> metric.update_state([[1, 1], [1, 0]], [[0.9, 0.6], [0.2, 0.7]])
        >>> round(float(metric.result()), 4)
        0.6944
    """

    _weight_zero_leaves_out = True
    _direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if average not in _AVERAGES:
            raise ValueError(f"average is {average!r}, expected one of {_AVERAGES}. Pass one of them.")
        if not _is_number(beta) or beta <= 0:
            raise ValueError(f"beta is {beta!r}, expected a positive number. Pass for example 1.0.")
        if threshold is not None and not (_is_number(threshold) and 0 < threshold <= 1):
            raise ValueError(
                f"threshold is {threshold!r}, expected a number in (0, 1] or None. Pass for example 0.5."
            )
        self.average = average
        self.beta = beta
        self.threshold = threshold
        self._built = False

    def build_for(self, y_true: Any, y_pred: Any) -> None:
        """Makes the variables for so many classes as `y_pred` has, where there are none yet.

        Raises:
            ValueError: labels or outputs are not `(batch, classes)`.
        """
        if self._built:
            return
        shapes = np.shape(y_true), np.shape(y_pred)
        if not all(len(shape) == 2 for shape in shapes):
            raise ValueError(
                f"{self.name}: labels have shape {shapes[0]} and outputs {shapes[1]}, expected both "
                "(batch, classes). Make the labels one-hot; for one output unit let it be (batch, 1)."
            )
        self._note_build(y_true, y_pred)
        for kept in _KEPT:
            shape = () if self.average == "micro" else shapes[1][1:]
            setattr(self, kept, self.add_total(shape, name=kept))
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: `(batch, classes)`, zeros and ones.
            y_pred: `(batch, classes)`.
            sample_weight: None, `(batch,)` or `(batch, classes)`.

        Raises:
            ValueError: labels, outputs and weights do not fit.
        """
        self.build_for(y_true, y_pred)
        labels, outputs = pair(self.name, y_true, y_pred)
        weight = weights_like(self.name, sample_weight, labels.shape)
        if self.threshold is None:
            is_largest = outputs >= outputs.max(axis=-1, keepdims=True)
            predicted = is_largest & (jnp.abs(outputs) > 1e-9)
        else:
            predicted = outputs > self.threshold
        predicted = predicted.astype(labels.dtype)
        amounts = (predicted * labels, predicted * (1 - labels), (1 - predicted) * labels, labels)
        for kept, amount in zip(_KEPT, amounts, strict=True):
            if weight is not None:
                amount = jnp.where(weight == 0, 0, amount * weight)
            getattr(self, kept).assign_add(amount.sum(axis=None if self.average == "micro" else 0))

    def result(self) -> jax.Array:
        """Returns the score: a scalar, or `(classes,)` without `average`; zero before the first batch."""
        if not self._built:
            return jnp.zeros((), self.dtype)
        true, wrong, missed, labels = (getattr(self, kept).get_value() for kept in _KEPT)
        precision = true / (true + wrong + _EPSILON)
        recall = true / (true + missed + _EPSILON)
        squared = self.beta**2
        scores = precision * recall / (squared * precision + recall + _EPSILON) * (1 + squared)
        if self.average == "weighted":
            scores = (scores * labels / (labels.sum() + _EPSILON)).sum()
        elif self.average is not None:
            scores = scores.mean()
        return scores.astype(self.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        own = {"average": self.average, "beta": self.beta, "threshold": self.threshold}
        return {**super().get_config(), **own}


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall; arguments and errors as for `FBetaScore`.

    Examples:
        >>> metric = F1Score(threshold=0.5)
        >>> metric.update_state([[1, 1], [1, 0]], [[0.9, 0.6], [0.2, 0.7]])
        >>> [round(float(score), 4) for score in metric.result()]
        [0.6667, 0.6667]
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ):
        super().__init__(average, 1.0, threshold, name, dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        return {key: value for key, value in super().get_config().items() if key != "beta"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
