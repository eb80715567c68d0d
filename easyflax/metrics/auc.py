"""The area under the ROC or the precision-recall curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.metrics.base import Metric
from easyflax.metrics.confusion import Counts, Thresholds, are_even, check_between, count, plain, ratio
from easyflax.serialization import deserialize

__all__ = ["AUC"]

_CURVES = ("ROC", "PR", "PRGAIN")
_SUMMATIONS = ("interpolation", "minoring", "majoring")
_EPSILON = 1e-7


class AUC(Metric):
    """The area under a curve that yes-or-no predictions draw as their threshold goes from one to zero.

    Args:
        num_thresholds: how many thresholds to draw it with, at least two.
        curve: `"ROC"`, true positive rate over false positive rate; `"PR"`, precision over recall; or
            `"PRGAIN"`, precision gain over recall gain.
        summation_method: `"interpolation"` between points (for `"PR"` of the counts, not of their ratio),
            `"minoring"` or `"majoring"`: the lower or the higher end of each step.
        name: the name in logs.
        dtype: as in `Metric`.
        thresholds: numbers in [0, 1] in place of `num_thresholds`; one below zero and one above one are
            added.
        multi_label: whether each entry of the last axis is a label of its own, whose areas are averaged;
            else all entries are one set of predictions.
        num_labels: with `multi_label`, how many there are; else the first batch tells.
        label_weights: one weight for each entry of the last axis: of its area, or of its predictions.
        from_logits: whether outputs are logits rather than probabilities.

    Raises:
        ValueError: an argument is none of these, or `num_labels` is given without `multi_label`.

    Examples:
        >>> metric = AUC(num_thresholds=3)
        >>> metric.update_state([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])
        >>> float(metric.result())
        0.75

    Source: Davis and Goadrich 2006, https://doi.org/10.1145/1143844.1143874 (interpolation of precision);
    Flach and Kull 2015, https://papers.nips.cc/paper/5867 (gains)
    """

    _weight_zero_leaves_out = True
    _direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ):
        super().__init__(name=name, dtype=dtype)
        self.curve = _one_of("curve", _CURVES, curve)
        self.summation_method = _one_of("summation_method", _SUMMATIONS, summation_method)
        if num_labels and not multi_label:
            raise ValueError(
                f"num_labels={num_labels} was given with multi_label=False, expected it with "
                "multi_label=True only. Leave it out, or pass multi_label=True."
            )
        self._init_from_thresholds = thresholds is not None
        self._thresholds = _thresholds(num_thresholds, thresholds)
        self.num_thresholds = len(self._thresholds.values)
        self.multi_label = multi_label
        self.num_labels = num_labels
        self.label_weights = None if label_weights is None else tuple(map(float, plain(label_weights)))
        self._from_logits = from_logits
        self._built = False
        if not multi_label or num_labels:
            self._make_counts((num_labels,) if num_labels else ())

    @property
    def thresholds(self) -> list[float]:
        """The thresholds, with those outside of [0, 1]."""
        return list(self._thresholds.values)

    def build_for(self, y_true: Any, y_pred: Any) -> None:
        """Makes the variables for so many labels as `y_pred` has, where there are none yet.

        Raises:
            ValueError: with `multi_label`, `y_pred` has not two axes.
        """
        if self._built:
            return
        shape = np.shape(y_pred)
        if len(shape) != 2:
            raise ValueError(
                f"{self.name}: outputs have shape {shape}, expected (batch, labels) with multi_label=True. "
                "Reshape them, or leave multi_label out."
            )
        self._note_build(y_true, y_pred)
        self._make_counts(shape[1:])

    def _make_counts(self, labels: tuple[int, ...]) -> None:
        for kept in Counts._fields:
            setattr(self, kept, self.add_total((self.num_thresholds, *labels), name=kept))
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: `(batch, ...)`; all but zero is true.
            y_pred: probabilities or logits of the same shape.
            sample_weight: None, `(batch,)` or the shape of the labels.

        Raises:
            ValueError: labels, outputs and weights do not fit.
        """
        self.build_for(y_true, y_pred)
        counts = count(
            self.name,
            y_true,
            jax.nn.sigmoid(jnp.asarray(y_pred)) if self._from_logits else y_pred,
            sample_weight,
            self._thresholds,
            by_label=self.multi_label,
            label_weights=None if self.multi_label else self.label_weights,
        )
        for kept in Counts._fields:
            getattr(self, kept).assign_add(getattr(counts, kept))

    def result(self) -> jax.Array:
        """Returns the area, a scalar; zero before the first batch."""
        if not self._built:
            return jnp.zeros(())
        counts = Counts(*(getattr(self, kept).get_value() for kept in Counts._fields))
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = _interpolated_precision(counts)
        else:
            x, y = _POINTS[self.curve](counts)
            areas = (x[:-1] - x[1:]) * _heights(self.summation_method, y)
        areas = areas.sum(axis=0)
        if not self.multi_label or self.label_weights is None:
            return areas.mean()
        weights = jnp.asarray(self.label_weights)
        return jnp.where(weights.sum() == 0, 0, (areas * weights).sum() / weights.sum())

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Returns a new metric of what `get_config`, here or in Keras, returned."""
        return cls(**deserialize(dict(config)))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        own: dict[str, Any] = {
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": None if self.label_weights is None else list(self.label_weights),
            "from_logits": self._from_logits,
        }
        if self._init_from_thresholds:
            own["thresholds"] = self.thresholds[1:-1]
        return {**super().get_config(), **own}


def _thresholds(number: int, given: Sequence[float] | None) -> Thresholds:
    """Returns thresholds the first of which every prediction exceeds, and the last none."""
    if given is None:
        if number < 2:
            raise ValueError(
                f"num_thresholds={number} is less than two, expected how many points to draw the curve with. "
                "Pass for example 200."
            )
        inner = Thresholds.spread(number).values[1:-1]
    else:
        inner = tuple(sorted(float(value) for value in given))
        check_between("thresholds", inner)
    even = given is None or are_even((0.0, *inner, 1.0))
    return Thresholds((-_EPSILON, *inner, 1 + _EPSILON), even, begin_below=True)


def _heights(summation_method: str, y: jax.Array) -> jax.Array:
    if summation_method == "interpolation":
        return (y[:-1] + y[1:]) / 2
    return (jnp.minimum if summation_method == "minoring" else jnp.maximum)(y[:-1], y[1:])


def _roc(counts: Counts) -> tuple[jax.Array, jax.Array]:
    recall = ratio(counts.true_positives, counts.false_negatives)
    return ratio(counts.false_positives, counts.true_negatives), recall


def _precision_recall(counts: Counts) -> tuple[jax.Array, jax.Array]:
    recall = ratio(counts.true_positives, counts.false_negatives)
    return recall, ratio(counts.true_positives, counts.false_positives)


def _gains(counts: Counts) -> tuple[jax.Array, jax.Array]:
    positives = counts.true_positives + counts.false_negatives
    odds = _quotient(positives, counts.true_negatives + counts.false_positives)
    recall_gain = 1 - odds * _quotient(counts.false_negatives, counts.true_positives)
    precision_gain = 1 - odds * _quotient(counts.false_positives, counts.true_positives)
    nothing = counts.true_positives == 0
    return jnp.maximum(jnp.where(nothing, 0, recall_gain), 0), jnp.where(nothing, 1, precision_gain)


_POINTS = {"ROC": _roc, "PR": _precision_recall, "PRGAIN": _gains}


def _interpolated_precision(counts: Counts) -> jax.Array:
    """Returns the area of each step, along which true and false positives grow in proportion."""
    true, positive = counts.true_positives, counts.true_positives + counts.false_positives
    more_true, more_positive = true[:-1] - true[1:], positive[:-1] - positive[1:]
    slope = _quotient(more_true, jnp.maximum(more_positive, 0))
    intercept = true[1:] - slope * positive[1:]
    both = (positive[:-1] > 0) & (positive[1:] > 0)
    growth = jnp.where(both, _quotient(positive[:-1], jnp.maximum(positive[1:], 0)), 1)
    labels = jnp.maximum(true[1:] + counts.false_negatives[1:], 0)
    return _quotient(slope * (more_true + intercept * jnp.log(growth)), labels)


def _quotient(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns `a / b`, zero where `b` is."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def _one_of(argument: str, known: tuple[str, ...], given: Any) -> str:
    """Returns the known name in its own case."""
    for name in known:
        if name.lower() == str(given).lower():
            return name
    raise ValueError(
        f"{argument} is {given!r}, expected one of {', '.join(map(repr, known))}. Pass one of them."
    )
