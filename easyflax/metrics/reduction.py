"""Sums and means of values, weighted, over any number of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.masks import mask_of
from easyflax.metrics.base import Metric
from easyflax.metrics.weights import per_row, with_mask
from easyflax.naming import snake_case
from easyflax.serialization import deserialize, serialize

__all__ = ["FunctionMetric", "LossMetric", "Mean", "MeanMetricWrapper", "NamedMean", "Sum", "mean_of"]


class Sum(Metric):
    """The weighted sum of values.

    Args:
        name: the name in logs.
        dtype: of the result.

    Examples:
        >>> metric = Sum()
        >>> metric.update_state([1, 3, 5, 7], sample_weight=[1, 1, 0, 0])
        >>> float(metric.result())
        4.0
    """

    _weight_zero_leaves_out = True

    def __init__(self, name: str | None = "sum", dtype: Any = None):
        super().__init__(dtype=dtype, name=name)
        self.total = self.add_total(name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values.

        Args:
            values: `(batch, ...)` or a number.
            sample_weight: None, or of the shape of the values or of their first axes; a value of weight zero
                counts nowhere, even if it is infinite.

        Raises:
            ValueError: the weights do not fit the values.
        """
        rows, _ = per_row(self.name, values, sample_weight, jnp.sum, self.total.dtype)
        self.total.assign_add(rows.sum())

    def result(self) -> jax.Array:
        """Returns the sum, a scalar."""
        return self.total.get_raw_value().astype(self.dtype)


class Mean(Metric):
    """The weighted mean of values: of all rows, where each row counts the mean of its own values.

    Args:
        name: the name in logs.
        dtype: of the result.

    Examples:
        >>> metric = Mean()
        >>> metric.update_state([1, 3, 5, 7], sample_weight=[1, 1, 0, 0])
        >>> float(metric.result())
        2.0
    """

    _weight_zero_leaves_out = True

    def __init__(self, name: str | None = "mean", dtype: Any = None):
        super().__init__(dtype=dtype, name=name)
        self.total = self.add_total(name="total")
        self.count = self.add_total(name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values.

        Args:
            values: `(batch, ...)` or a number.
            sample_weight: None, or of the shape of the values or of their first axes; a value of weight zero
                counts nowhere, even if it is infinite.

        Raises:
            ValueError: the weights do not fit the values.
        """
        rows, weight = per_row(self.name, values, sample_weight, jnp.mean, self.total.dtype)
        self.total.assign_add(rows.sum())
        self.count.assign_add(rows.size if weight is None else weight.sum())

    def result(self) -> jax.Array:
        """Returns the mean, a scalar; zero before the first value."""
        return mean_of(self.total, self.count).astype(self.dtype)


class MeanMetricWrapper(Mean):
    """The weighted mean of what a function `fn(y_true, y_pred)` returns for each row or element.

    Args:
        fn: the function.
        name: the name in logs.
        dtype: of the result.
        **kwargs: further arguments for `fn`.

    Examples:
        >>> def error(y_true, y_pred, power):
        ...     return abs(y_true - y_pred) ** power
        >>> metric = MeanMetricWrapper(error, power=2)
        >>> metric.update_state(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
        >>> float(metric.result())
        2.0
    """

    _weight_zero_leaves_out = True

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(name=name, dtype=dtype)
        self._fn = fn
        self._fn_kwargs = kwargs
        if getattr(fn, "__module__", "").startswith("easyflax.losses"):
            self._direction = "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: labels.
            y_pred: outputs of a model; a mask that goes along with them counts like weights.
            sample_weight: None, `(batch,)`, or one for each value.

        Raises:
            ValueError: labels, outputs and weights do not fit.
        """
        values = self._values(y_true, y_pred)
        super().update_state(values, with_mask(sample_weight, mask_of(y_pred), self.total.dtype))

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        """Returns whether the function gives a value for each row."""
        if not super().is_row_wise(y_true, y_pred):
            return False
        values = jax.eval_shape(self._values, y_true, y_pred)
        return values.ndim > 0 and values.shape[0] == _batch_size(y_pred)

    def _values(self, y_true: Any, y_pred: Any) -> jax.Array:
        return jnp.asarray(self._fn(y_true, y_pred, **self._fn_kwargs))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        return {**super().get_config(), "fn": serialize(self._fn), **serialize(self._fn_kwargs)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Returns a new metric of what `get_config` returned."""
        return cls(**(deserialize(dict(config)) if "fn" in config else config))


class NamedMean(MeanMetricWrapper):
    """The mean of a function that belongs to the class; its further arguments are attributes."""

    _weight_zero_leaves_out = True

    def __init__(self, fn: Callable[..., Any], name: str | None, dtype: Any, **kwargs: Any):
        super().__init__(fn, name, dtype, **kwargs)
        for argument, value in kwargs.items():
            setattr(self, argument, value)

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        """Returns whether the function gives a value for each row, and does not look along the rows."""
        ndim = len(np.shape(y_pred))
        along_rows = ndim > 1 and self._fn_kwargs.get("axis", -1) % ndim == 0
        return not along_rows and super().is_row_wise(y_true, y_pred)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        return {"name": self.name, "dtype": self.dtype, **serialize(self._fn_kwargs)}


class LossMetric(MeanMetricWrapper):
    """The mean of a loss over rows, whatever the loss's own reduction.

    Args:
        fn: the loss.
        name: the name in logs; that of the loss when left out.
        dtype: of the result.
    """

    _direction = "down"

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None):
        super().__init__(fn, name or _name_of(fn), dtype)

    def _values(self, y_true: Any, y_pred: Any) -> jax.Array:
        return self._fn.values(y_true, y_pred)  # type: ignore[attr-defined]


class FunctionMetric(MeanMetricWrapper):
    """A plain function `(y_true, y_pred)` as a metric.

    One value a row is averaged over rows. A function that returns a scalar for the whole batch is averaged
    over batches, each weighing as much as it has rows; it needs batches without padding and weights.

    Args:
        fn: the function.
        name: the name in logs; that of the function when left out.
        dtype: of the result.
    """

    _weight_zero_leaves_out = True

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None):
        super().__init__(fn, name or _name_of(fn), dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: labels.
            y_pred: outputs of a model.
            sample_weight: None, `(batch,)`, or one for each value.

        Raises:
            ValueError: the function returns another number of rows, or a scalar where rows are weighted.
        """
        if jax.eval_shape(self._values, y_true, y_pred).ndim:
            super().update_state(y_true, y_pred, sample_weight)
        elif sample_weight is None:
            Mean.update_state(self, self._values(y_true, y_pred), _batch_size(y_pred))
        else:
            raise ValueError(
                f"Metric {self.name!r} returned one value for a whole batch, expected one a row where rows "
                "are weighted or padded. Return one value a row: leave out the mean over the batch."
            )

    def _values(self, y_true: Any, y_pred: Any) -> jax.Array:
        values, batch = super()._values(y_true, y_pred), _batch_size(y_pred)
        if values.ndim and values.shape[0] != batch:
            raise ValueError(
                f"Metric {self.name!r} returned shape {values.shape} for a batch of {batch}, expected "
                f"({batch},) or ({batch}, ...), or a scalar. Return one value a row."
            )
        return values


def mean_of(total: Any, count: Any) -> jax.Array:
    """Returns `total / count`, and zero where `count` is.

    Args:
        total: a sum, as an array or a variable.
        count: of its shape or a scalar, likewise.
    """
    total, count = jnp.asarray(total), jnp.asarray(count)
    return jnp.where(count == 0, 0, total / jnp.where(count == 0, 1, count))


def _name_of(fn: Any) -> str:
    return getattr(fn, "name", None) or snake_case(getattr(fn, "__name__", type(fn).__name__))


def _batch_size(y_pred: Any) -> int:
    return np.shape(jax.tree.leaves(y_pred)[0])[0]
