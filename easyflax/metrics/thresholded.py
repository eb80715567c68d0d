"""Counts of right and wrong yes-or-no predictions, precision and recall, at one or more thresholds."""

from __future__ import annotations

from typing import Any, ClassVar

import jax

from easyflax.metrics.base import Metric
from easyflax.metrics.confusion import (
    ABOVE_ALL_OTHERS,
    Counts,
    Thresholds,
    checked_class_id,
    checked_top_k,
    count,
    plain,
    ratio,
)

__all__ = ["FalseNegatives", "FalsePositives", "Precision", "Recall", "TrueNegatives", "TruePositives"]


class _Count(Metric):
    """The weighted number of predictions of one kind.

    Args:
        thresholds: a number in [0, 1], or several, that outputs have to exceed to be positive; 0.5 by
            default. Of several the result has one number for each.
        name: the name in logs.
        dtype: as in `Metric`.

    Raises:
        ValueError: a threshold is outside [0, 1].
    """

    _weight_zero_leaves_out = True
    _counted: ClassVar[str]

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = plain(thresholds)
        self._thresholds = Thresholds.of(thresholds)
        self.accumulator = self.add_total((len(self.thresholds),), name="accumulator")

    @property
    def thresholds(self) -> list[float]:
        """The thresholds."""
        return list(self._thresholds.values)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: `(batch, ...)`; all but zero is true.
            y_pred: probabilities of the same shape.
            sample_weight: None, `(batch,)` or the shape of the labels.

        Raises:
            ValueError: labels, outputs and weights do not fit.
        """
        counts = count(self.name, y_true, y_pred, sample_weight, self._thresholds)
        self.accumulator.assign_add(getattr(counts, self._counted))

    def result(self) -> jax.Array:
        """Returns the number; `(thresholds,)` numbers where there are several."""
        value = self.accumulator.get_value()
        return value[0] if len(self.thresholds) == 1 else value

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        return {**super().get_config(), "thresholds": self.init_thresholds}


class TruePositives(_Count):
    """The weighted number of positive predictions where the label is true; see `Precision` for arguments.

    Examples:
        >>> metric = TruePositives()
        >>> metric.update_state([0, 1, 1, 1], [1.0, 0.0, 1.0, 1.0])
        >>> float(metric.result())
        2.0
    """

    _counted = "true_positives"


class FalsePositives(_Count):
    """The weighted number of positive predictions where the label is false; see `Precision` for arguments."""

    _counted = "false_positives"


class TrueNegatives(_Count):
    """The weighted number of negative predictions where the label is false; see `Precision` for arguments."""

    _counted = "true_negatives"


class FalseNegatives(_Count):
    """The weighted number of negative predictions where the label is true; see `Precision` for arguments."""

    _counted = "false_negatives"


class _Share(Metric):
    """What precision and recall have in common: the share of true positives in a larger number."""

    _weight_zero_leaves_out = True
    _direction = "up"
    _others: ClassVar[str]  # what the larger number holds besides

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = plain(thresholds)
        self.top_k = checked_top_k(top_k)
        self.class_id = checked_class_id(class_id)
        self._thresholds = Thresholds.of(thresholds, 0.5 if top_k is None else ABOVE_ALL_OTHERS)
        for kept in ("true_positives", self._others):
            setattr(self, kept, self.add_total((len(self.thresholds),), name=kept))

    @property
    def thresholds(self) -> list[float]:
        """The thresholds."""
        return list(self._thresholds.values)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: `(batch, ...)`; all but zero is true.
            y_pred: probabilities of the same shape.
            sample_weight: None, `(batch,)` or the shape of the labels.

        Raises:
            ValueError: labels, outputs and weights do not fit, or there are fewer classes than `top_k` or
                `class_id` need.
        """
        counts: Counts = count(
            self.name,
            y_true,
            y_pred,
            sample_weight,
            self._thresholds,
            top_k=self.top_k,
            class_id=self.class_id,
        )
        for kept in ("true_positives", self._others):
            getattr(self, kept).assign_add(getattr(counts, kept))

    def result(self) -> jax.Array:
        """Returns the share, zero where nothing was counted; `(thresholds,)` where there are several."""
        share = ratio(vars(self)["true_positives"], vars(self)[self._others])
        return share[0] if len(self.thresholds) == 1 else share

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        own = {"thresholds": self.init_thresholds, "top_k": self.top_k, "class_id": self.class_id}
        return {**super().get_config(), **own}


class Precision(_Share):
    """The share of positive predictions that are right.

    Args:
        thresholds: a number in [0, 1], or several, that outputs have to exceed to be positive; 0.5 by
            default, with `top_k` none. Of several the result has one value for each.
        top_k: only the so many largest outputs of a row can be positive.
        class_id: look at this class only, an index of the last axis.
        name: the name in logs.
        dtype: as in `Metric`.

    Raises:
        ValueError: a threshold is outside [0, 1], `top_k` below one, or `class_id` negative.

    Examples:
        >>> metric = Precision()
        >>> metric.update_state([0, 1, 1, 1], [1.0, 0.0, 1.0, 1.0])
        >>> round(float(metric.result()), 4)
        0.6667
    """

    _others = "false_positives"


class Recall(_Share):
    """The share of true labels that are predicted; arguments and errors as for `Precision`."""

    _others = "false_negatives"
