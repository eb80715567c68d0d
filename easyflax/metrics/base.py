"""What a metric is: a small state on the device that batches are added to, and a result that is read from it.

A metric is pure: `init` makes the state, `update` returns the next one, `result` a scalar. The state is a
pytree of float32 scalars, so it is carried through the jitted step and never waits for the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from easyflax.losses.base import Loss
from easyflax.metrics.accumulate import Total, add, mean, zero
from easyflax.naming import snake_case

__all__ = ["FunctionMetric", "LossMetric", "Mean", "MeanState", "Metric", "RowMetric"]


class Metric:
    """The base class of all metrics.

    Args:
        name: the name in logs; the class's name in snake case when left out.

    Attributes:
        direction: `"max"` when more is better, `"min"` when less is, None where nobody knows. Callbacks with
            `mode="auto"` go by it.
    """

    direction: str | None = None

    def __init__(self, name: str | None = None):
        self.name = name or snake_case(type(self).__name__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    def init(self) -> Any:
        """Returns the state before the first batch."""
        raise NotImplementedError

    def update(self, state: Any, y_true: Any, y_pred: Any, weight: jax.Array | None = None) -> Any:
        """Returns the state with one more batch.

        Args:
            state: what `init` or the last `update` returned.
            y_true: labels.
            y_pred: outputs of the model.
            weight: `(batch,)`, a weight for each row, or booleans that are False for padding; None counts
                all.
        """
        raise NotImplementedError

    def result(self, state: Any) -> jax.Array:
        """Returns the metric over all batches so far, a float32 scalar."""
        raise NotImplementedError

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        """Returns whether a weight of zero leaves a row out; not so if the metric looks at whole batches.

        Args:
            y_true: labels, arrays or `jax.ShapeDtypeStruct`s.
            y_pred: outputs, likewise.
        """
        del y_true, y_pred
        return True


class MeanState(NamedTuple):
    """A weighted sum and the sum of the weights."""

    total: Total
    weight: Total


class Mean(Metric):
    """The weighted mean of numbers, exact over any number of batches."""

    def init(self) -> MeanState:
        return MeanState(zero(), zero())

    def add(self, state: MeanState, values: jax.Array, weight: jax.Array | None = None) -> MeanState:
        """Returns the state with the numbers of one batch.

        Args:
            state: the state so far.
            values: `(batch, ...)`.
            weight: `(batch,)`, one weight for all numbers of a row; a row of weight zero counts nowhere, even
                if its numbers are infinite.
        """
        values = values.astype(jnp.float32).reshape(values.shape[0], -1)  # (batch, elements)
        rows, elements = values.shape
        if weight is None:
            return MeanState(
                add(state.total, values.sum(axis=1).sum()), _add_count(state.weight, rows * elements)
            )
        weight = jnp.asarray(weight, jnp.float32).reshape(rows)
        total = jnp.where(weight == 0, 0, weight * values.sum(axis=1)).sum()
        return MeanState(add(state.total, total), add(state.weight, weight.sum() * elements))

    def result(self, state: MeanState) -> jax.Array:
        return mean(state.total, state.weight)


class RowMetric(Mean):
    """The mean of a value for each row or element; subclass it and define `values`."""

    def values(self, y_true: Any, y_pred: Any) -> jax.Array:
        """Returns the numbers to average, `(batch, ...)`."""
        raise NotImplementedError

    def update(
        self, state: MeanState, y_true: Any, y_pred: Any, weight: jax.Array | None = None
    ) -> MeanState:
        return self.add(state, self.values(y_true, y_pred), weight)


class LossMetric(RowMetric):
    """The mean of a loss over rows, whatever the loss's own reduction."""

    direction = "min"

    def __init__(self, loss: Loss, name: str | None = None):
        super().__init__(name or loss.name)
        self.loss = loss

    def values(self, y_true: Any, y_pred: Any) -> jax.Array:
        return self.loss.per_row(y_true, y_pred)


class FunctionMetric(RowMetric):
    """A plain function `(y_true, y_pred)` as a metric.

    One value a row is averaged over rows. A function that returns a scalar for the whole batch is averaged
    over batches, each weighing as much as it has rows; it needs batches without padding.
    """

    def __init__(self, function: Callable[[Any, Any], Any], name: str | None = None):
        super().__init__(name or snake_case(getattr(function, "__name__", type(function).__name__)))
        self.function = function

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        return jax.eval_shape(self.values, y_true, y_pred).ndim > 0

    def values(self, y_true: Any, y_pred: Any) -> jax.Array:
        values = jnp.asarray(self.function(y_true, y_pred))
        batch = _batch_size(y_pred)
        if values.ndim and values.shape[0] != batch:
            raise ValueError(
                f"Metric {self.name!r} returned shape {values.shape} for a batch of {batch}, expected "
                f"({batch},) or ({batch}, ...), or a scalar. Return one value a row."
            )
        return values

    def update(
        self, state: MeanState, y_true: Any, y_pred: Any, weight: jax.Array | None = None
    ) -> MeanState:
        values = self.values(y_true, y_pred)
        if values.ndim:
            return self.add(state, values, weight)
        if weight is not None:
            raise ValueError(
                f"Metric {self.name!r} returned one value for a whole batch, expected one a row where rows "
                "are weighted or padded. Return one value a row: leave out the mean over the batch."
            )
        return self.add(state, jnp.broadcast_to(values, (1,)), jnp.full(1, _batch_size(y_pred), jnp.float32))


def _add_count(total: Total, count: int) -> Total:
    """Adds an integer that float32 may not hold, in two parts that it does."""
    high = count - count % 2**12
    return add(add(total, jnp.float32(high)), jnp.float32(count - high))


def _batch_size(y_pred: Any) -> int:
    return jax.tree.leaves(y_pred)[0].shape[0]
