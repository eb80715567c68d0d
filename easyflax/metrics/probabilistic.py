"""Means of cross-entropies and divergences, under Keras's names."""

from __future__ import annotations

from typing import Any

import easyflax.losses as losses
from easyflax.metrics.reduction import NamedMean

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "KLDivergence",
    "Poisson",
    "SparseCategoricalCrossentropy",
]


class BinaryCrossentropy(NamedMean):
    """The mean cross-entropy of yes-or-no labels.

    Args:
        name: the name in logs.
        dtype: of the result.
        from_logits: whether outputs are logits rather than probabilities.
        label_smoothing: share of each label that is replaced by one half, in `[0, 1]`.

    Examples:
        >>> metric = BinaryCrossentropy()
        >>> metric.update_state([[0.0, 1.0]], [[0.5, 0.5]])
        >>> round(float(metric.result()), 4)
        0.6931
    """

    _direction = "down"

    def __init__(
        self,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ):
        settings = {"from_logits": from_logits, "label_smoothing": label_smoothing}
        super().__init__(losses.binary_crossentropy, name, dtype, **settings)


class CategoricalCrossentropy(NamedMean):
    """The mean cross-entropy of one-hot labels, or of any distribution over classes.

    Args:
        name: the name in logs.
        dtype: of the result.
        from_logits: whether outputs are logits rather than probabilities.
        label_smoothing: share of each label that is spread evenly over all classes, in `[0, 1]`.
        axis: the axis of the classes.
    """

    _direction = "down"

    def __init__(
        self,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ):
        settings = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(losses.categorical_crossentropy, name, dtype, **settings)


class SparseCategoricalCrossentropy(NamedMean):
    """The mean cross-entropy of labels that are class indices.

    Args:
        name: the name in logs.
        dtype: of the result.
        from_logits: whether outputs are logits rather than probabilities.
        ignore_class: an index whose cross-entropy is zero. As in Keras it counts in the mean nonetheless,
            unless there are weights; `Perplexity` leaves it out.
        axis: the axis of the classes.
    """

    _direction = "down"

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ):
        settings: dict[str, Any] = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(losses.sparse_categorical_crossentropy, name, dtype, **settings)

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        """Returns whether weights only leave out rows: with `ignore_class` they change what counts."""
        return self.ignore_class is None and super().is_row_wise(y_true, y_pred)


class KLDivergence(NamedMean):
    """The mean of the divergence `sum(y_true * log(y_true / y_pred))`.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, name: str | None = "kl_divergence", dtype: Any = None):
        super().__init__(losses.kl_divergence, name, dtype)


class Poisson(NamedMean):
    """The mean of `y_pred - y_true * log(y_pred)`, for counts and predicted rates.

    Args:
        name: the name in logs.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, name: str | None = "poisson", dtype: Any = None):
        super().__init__(losses.poisson, name, dtype)
