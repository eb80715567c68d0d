"""The best of one rate where another is at least so high, over evenly spaced thresholds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.metrics.base import Metric
from easyflax.metrics.confusion import Counts, Thresholds, check_between, checked_class_id, count, ratio

__all__ = ["PrecisionAtRecall", "RecallAtPrecision", "SensitivityAtSpecificity", "SpecificityAtSensitivity"]


class _OperatingPoint(Metric):
    _weight_zero_leaves_out = True
    _direction = "up"

    def __init__(
        self,
        bound: str,
        value: float,
        num_thresholds: int,
        class_id: int | None,
        name: str | None,
        dtype: Any,
    ):
        super().__init__(name=name, dtype=dtype)
        check_between(bound, [value])
        if num_thresholds < 1:
            raise ValueError(
                f"num_thresholds={num_thresholds} is less than one, expected how many to try. Pass for "
                "example 200."
            )
        self._bound = bound
        self.value = value
        setattr(self, bound, value)
        self.num_thresholds = num_thresholds
        self.class_id = checked_class_id(class_id)
        self._thresholds = Thresholds.of(None) if num_thresholds == 1 else Thresholds.spread(num_thresholds)
        for kept in Counts._fields:
            setattr(self, kept, self.add_total((num_thresholds,), name=kept))

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
            ValueError: labels, outputs and weights do not fit, or there is no class `class_id`.
        """
        counts = count(self.name, y_true, y_pred, sample_weight, self._thresholds, class_id=self.class_id)
        for kept in Counts._fields:
            getattr(self, kept).assign_add(getattr(counts, kept))

    def rates(self, counts: Counts) -> tuple[jax.Array, jax.Array]:
        """Returns the rate that is bounded and the one that is maximised, at each threshold."""
        raise NotImplementedError

    def result(self) -> jax.Array:
        """Returns the rate, zero where no threshold is good enough."""
        bounded, wanted = self.rates(Counts(*(getattr(self, kept).get_value() for kept in Counts._fields)))
        return jnp.max(jnp.where(bounded >= self.value, wanted, 0), initial=0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        own = {
            "class_id": self.class_id,
            "num_thresholds": self.num_thresholds,
            self._bound: self.value,
        }
        return {**super().get_config(), **own}


class SensitivityAtSpecificity(_OperatingPoint):
    """The highest sensitivity (true positive rate) at a specificity (true negative rate) of at least this.

    Args:
        specificity: the bound, in [0, 1].
        num_thresholds: how many thresholds to try.
        class_id: look at this class only, an index of the last axis.
        name: the name in logs.
        dtype: as in `Metric`.

    Raises:
        ValueError: the bound is outside [0, 1], or `num_thresholds` below one.

    Examples:
        >>> metric = SensitivityAtSpecificity(0.5)
        >>> metric.update_state([0, 0, 0, 1, 1], [0.0, 0.3, 0.8, 0.3, 0.8])
        >>> float(metric.result())
        0.5
    """

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__("specificity", specificity, num_thresholds, class_id, name, dtype)

    def rates(self, counts: Counts) -> tuple[jax.Array, jax.Array]:
        """Returns specificity and sensitivity."""
        return _specificity(counts), _recall(counts)


class SpecificityAtSensitivity(_OperatingPoint):
    """The highest specificity (true negative rate) at a sensitivity (true positive rate) of at least this.

    Arguments and errors are those of `SensitivityAtSpecificity`.
    """

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__("sensitivity", sensitivity, num_thresholds, class_id, name, dtype)

    def rates(self, counts: Counts) -> tuple[jax.Array, jax.Array]:
        """Returns sensitivity and specificity."""
        return _recall(counts), _specificity(counts)


class PrecisionAtRecall(_OperatingPoint):
    """The highest precision at a recall of at least this; see `SensitivityAtSpecificity` for arguments."""

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__("recall", recall, num_thresholds, class_id, name, dtype)

    def rates(self, counts: Counts) -> tuple[jax.Array, jax.Array]:
        """Returns recall and precision."""
        return _recall(counts), _precision(counts)


class RecallAtPrecision(_OperatingPoint):
    """The highest recall at a precision of at least this; see `SensitivityAtSpecificity` for arguments."""

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__("precision", precision, num_thresholds, class_id, name, dtype)

    def rates(self, counts: Counts) -> tuple[jax.Array, jax.Array]:
        """Returns precision and recall."""
        return _precision(counts), _recall(counts)


def _recall(counts: Counts) -> jax.Array:
    return ratio(counts.true_positives, counts.false_negatives)


def _precision(counts: Counts) -> jax.Array:
    return ratio(counts.true_positives, counts.false_positives)


def _specificity(counts: Counts) -> jax.Array:
    return ratio(counts.true_negatives, counts.false_positives)
