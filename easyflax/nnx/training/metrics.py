"""Metrics that accumulate over batches, in variables, so that they pass through transforms like a model.

Each has `update(**values)`, `compute()` and `reset()`. Under `nnx.jit` nothing leaves the device until the
result of `compute()` is read. Metrics that saw parts of the data are merged into one that saw all of it, by
`merge(other)` and, after `nnx.vmap` or inside `nnx.shard_map`, by `merge_axis(axis)`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from easyflax.nnx.core import graph
from easyflax.nnx.core.filters import Filter
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.training import merging
from easyflax.nnx.training.merging import AxisName, Parts, Total

__all__ = ["Accuracy", "Average", "Metric", "MetricState", "MultiMetric", "Statistics", "Welford"]


class MetricState(Variable[Any]):
    """What a metric has accumulated."""


class Metric(Pytree):
    """Base class of metrics: accumulates in `update`, answers in `compute`, starts over with `reset`.

    A metric of one's own that is to be merged defines `merge` (and `merge_axis`) too.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> class Largest(nnx.Metric):
        ...     def __init__(self):
        ...         self.value = nnx.metrics.MetricState(jnp.array(-jnp.inf))
        ...     def reset(self):
        ...         self.value[...] = jnp.array(-jnp.inf)
        ...     def update(self, *, values, **_):
        ...         self.value[...] = jnp.maximum(self.value[...], values.max())
        ...     def compute(self):
        ...         return self.value[...]
        ...     def merge(self, other):
        ...         self.update(values=other.value)
        >>> metric = Largest()
        >>> metric.update(values=jnp.array([1.0, 5.0, 2.0]))
        >>> float(metric.compute())
        5.0
    """

    def reset(self) -> None:
        """Forgets everything accumulated."""
        raise NotImplementedError(self._missing("reset"))

    def update(self, **kwargs: Any) -> None:
        """Accumulates values, given by keyword; a metric takes those it knows and leaves the others alone."""
        raise NotImplementedError(self._missing("update"))

    def compute(self) -> Any:
        """Returns the metric of all that was accumulated."""
        raise NotImplementedError(self._missing("compute"))

    def split(self, *filters: Filter) -> Any:
        """Returns `nnx.split(self, *filters)`."""
        return graph.split(self, *filters)

    def merge(self, other: Metric) -> None:
        """Takes in what another metric has accumulated, as if this one had seen all of it.

        Args:
            other: a metric of the same type and settings; it stays as it is.

        Raises:
            TypeError: `other` is of another type.
            ValueError: it has other settings, or accumulates arrays of another shape.
            NotImplementedError: this type of metric does not say how to merge.
        """
        merging.merge(self, other, self._combined)

    def merge_axis(self, axis: int | AxisName) -> None:
        """Merges the metrics along an axis into one, in place.

        Args:
            axis: a number for an axis of what is accumulated, such as the one that `nnx.vmap` made; or the
                name of the axis (or the names) of the `nnx.shard_map` or `nnx.vmap` that runs, over which
                every device then has the merged metric. A metric that comes in from outside of it counts
                once for each device: make a new one inside, or `reset` it.

        Raises:
            ValueError: there is no axis of that number.
            NotImplementedError: this type of metric does not say how to merge.
        """
        merging.merge_axis(self, axis, self._combined)

    def _combined(self, _parts: Parts, _total: Total) -> Parts:
        """What to accumulate in place of the parts, of which `total` gives the sum over all metrics."""
        return {}

    def _missing(self, method: str) -> str:
        return (
            f"{type(self).__name__} has no method {method}, expected a metric to define reset, update and "
            f"compute. Define {type(self).__name__}.{method}."
        )


class Average(Metric):
    """The mean of all values.

    Args:
        argname: the keyword of `update` that the values come by.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> metric = nnx.metrics.Average("loss")
        >>> metric.update(loss=jnp.array([1.0, 2.0]))
        >>> metric.update(loss=jnp.array([6.0, 9.0]), mask=jnp.array([True, False]))
        >>> float(metric.compute())
        3.0
    """

    def __init__(self, argname: str = "values") -> None:
        self.argname = argname
        self.total = MetricState(jnp.array(0, dtype=jnp.float32))
        self.count = MetricState(jnp.array(0, dtype=jnp.int32))

    def reset(self) -> None:
        """Forgets everything accumulated."""
        self.total[...] = jnp.array(0, dtype=jnp.float32)
        self.count[...] = jnp.array(0, dtype=jnp.int32)

    def update(self, mask: ArrayLike | None = None, **kwargs: Any) -> None:
        """Adds values to the mean.

        Args:
            mask: which entries count, of a shape that broadcasts to that of the values.
            **kwargs: the values under the name `argname`, an array or a number; others are left alone.

        Raises:
            TypeError: there is no argument of that name.
            ValueError: the mask does not broadcast to the values.
        """
        values = _values(self, self.argname, kwargs)
        weights = _weights(self, kwargs[self.argname], values, mask)
        self.total[...] += (values if weights is None else _masked(values, weights)).sum()
        self.count[...] += values.size if weights is None else weights.sum().astype(self.count.dtype)

    def compute(self) -> jax.Array:
        """Returns the mean, a float32 scalar; NaN before the first update."""
        return self.total[...] / self.count[...]

    def _combined(self, parts: Parts, total: Total) -> Parts:
        return {"total": total(parts["total"]), "count": total(parts["count"])}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Statistics:
    """What `Welford` computes: three float32 scalars.

    Attributes:
        mean: the mean.
        standard_error_of_mean: `standard_deviation / sqrt(count)`.
        standard_deviation: the population's, with `count` in the denominator.
    """

    mean: jax.Array
    standard_error_of_mean: jax.Array
    standard_deviation: jax.Array


class Welford(Metric):
    """Mean and standard deviation of all values, in one pass and without cancellation.

    Args:
        argname: the keyword of `update` that the values come by.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> metric = nnx.metrics.Welford()
        >>> metric.update(values=jnp.array([1.0, 2.0]))
        >>> metric.update(values=jnp.array([3.0, 4.0]))
        >>> statistics = metric.compute()
        >>> float(statistics.mean), round(float(statistics.standard_deviation), 4)
        (2.5, 1.118)

    Source: Welford 1962, https://doi.org/10.1080/00401706.1962.10490022; for whole batches Chan, Golub and
    LeVeque 1983, equation 2.1, https://doi.org/10.1080/00031305.1983.10483115
    """

    def __init__(self, argname: str = "values") -> None:
        self.argname = argname
        self.count = MetricState(jnp.array(0, dtype=jnp.int32))
        self.mean = MetricState(jnp.array(0, dtype=jnp.float32))
        self.m2 = MetricState(jnp.array(0, dtype=jnp.float32))

    def reset(self) -> None:
        """Forgets everything accumulated."""
        self.count[...] = jnp.array(0, dtype=jnp.int32)
        self.mean[...] = jnp.array(0, dtype=jnp.float32)
        self.m2[...] = jnp.array(0, dtype=jnp.float32)

    def update(self, mask: ArrayLike | None = None, **kwargs: Any) -> None:
        """Adds values; arguments and errors as in `Average.update`. The mask is taken as true or false."""
        values = _values(self, self.argname, kwargs)
        if values.size == 0:  # has no mean
            return
        weights = _weights(self, kwargs[self.argname], values, mask)
        where = None if weights is None else weights.astype(bool)
        count = values.size if where is None else where.sum()
        old_count = self.count[...]
        new_count = old_count + count
        delta = values.mean(where=where) - self.mean[...]
        m2 = values.var(where=where) * count + delta * delta * count * old_count / new_count
        mean = self.mean[...] + delta * count / new_count
        if where is not None:  # the mean of a batch without any entry is NaN
            m2, mean = jnp.where(count > 0, m2, 0.0), jnp.where(count > 0, mean, self.mean[...])
        self.count[...] = new_count
        self.mean[...] = mean
        self.m2[...] += m2

    def compute(self) -> Statistics:
        """Returns the `Statistics`; before the first update their mean is zero and the rest NaN."""
        standard_deviation = (self.m2[...] / self.count[...]) ** 0.5
        return Statistics(
            mean=self.mean[...],
            standard_error_of_mean=standard_deviation / self.count[...] ** 0.5,
            standard_deviation=standard_deviation,
        )

    def _combined(self, parts: Parts, total: Total) -> Parts:
        counts, means = parts["count"], parts["mean"]
        count = total(counts)
        mean = total(means * counts) / jnp.maximum(count, 1)
        return {"count": count, "mean": mean, "m2": total(parts["m2"] + counts * (means - mean) ** 2)}


class Accuracy(Average):
    """The share of predictions that are right.

    Args:
        threshold: for binary classification, a prediction of at least this is positive; None for several
            classes, of which the one with the largest logit is predicted.

    Raises:
        TypeError: `threshold` is neither a float nor None.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> metric = nnx.metrics.Accuracy()
        >>> metric.update(logits=jnp.array([[0.1, 0.9], [0.8, 0.2]]), labels=jnp.array([1, 1]))
        >>> float(metric.compute())
        0.5
    """

    def __init__(self, threshold: float | None = None) -> None:
        if threshold is not None and not isinstance(threshold, float):
            raise TypeError(
                f"Accuracy: got threshold={threshold!r} of type {type(threshold).__name__}, expected a float "
                "or None. Write it with a decimal point, for example threshold=0.5."
            )
        super().__init__()
        self.threshold = threshold

    def update(  # type: ignore[override]
        self, *, logits: jax.Array, labels: jax.Array, mask: ArrayLike | None = None, **_: Any
    ) -> None:
        """Counts right predictions.

        Args:
            logits: `(..., classes)`, or with a threshold `(...)`.
            labels: `(...)`, integers; with a threshold those above zero are positive.
            mask: which entries count, of a shape that broadcasts to that of the labels.
            **_: what other metrics take.

        Raises:
            ValueError: the number of axes does not fit, the labels are no integers, or the mask does not
                broadcast to them.
        """
        logits, labels = jnp.asarray(logits), jnp.asarray(labels)
        self._check(logits, labels)
        if self.threshold is None:
            right = logits.argmax(axis=-1) == labels
        else:
            right = (logits >= self.threshold) == (labels > 0)
        super().update(values=right, mask=mask)

    def _check(self, logits: jax.Array, labels: jax.Array) -> None:
        if self.threshold is not None:
            fits = logits.shape == labels.shape
            expected = (
                "equal shapes. For binary classification pass one logit for each label; for several classes "
                "no threshold."
            )
        else:
            fits = logits.ndim > 0 and logits.shape[:-1] == labels.shape
            expected = (
                "(..., classes) and (...). For multi-class classification pass a logit for each class; for "
                "binary classification threshold=0.5."
            )
        if not fits:
            raise ValueError(
                f"{type(self).__name__}: got logits of shape {logits.shape} and labels of shape "
                f"{labels.shape}, expected {expected}" + _swapped(logits, labels)
            )
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(
                f"{type(self).__name__}: got labels of dtype {labels.dtype}, expected integers. "
                "Convert them with labels.astype(int); take argmax(axis=-1) of one-hot labels first."
                + _swapped(logits, labels)
            )


class MultiMetric(Metric):
    """Several metrics under one name each, updated together.

    Args:
        **metrics: metrics by name; each is an attribute of that name.

    Raises:
        TypeError: what stands under a name is no metric.
        ValueError: a name is that of a method.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average())
        >>> metrics.update(logits=jnp.eye(2), labels=jnp.array([0, 0]), values=jnp.array([0.5, 1.5]))
        >>> {name: float(value) for name, value in metrics.compute().items()}
        {'accuracy': 0.5, 'loss': 1.0}
    """

    def __init__(self, **metrics: Metric) -> None:
        reserved = [name for name in metrics if hasattr(type(self), name)]
        if reserved:
            raise ValueError(
                f"{type(self).__name__}: got a metric named '{reserved[0]}', expected a name that is no "
                "method of it. Choose another name."
            )
        for name, metric in metrics.items():
            if not callable(getattr(metric, "update", None)):
                raise TypeError(
                    f"{type(self).__name__}: got {name}={metric!r}, expected a metric. Pass an object with "
                    "reset, update and compute, for example nnx.metrics.Average()."
                )
        self._metric_names = tuple(metrics)
        for name, metric in metrics.items():
            setattr(self, name, metric)

    def reset(self) -> None:
        """Resets all metrics."""
        for name in self._metric_names:
            getattr(self, name).reset()

    def update(self, **updates: Any) -> None:
        """Updates all metrics, each with all arguments.

        Args:
            **updates: for the metrics; `mask` may be one mask for all, or a dict of masks by the metric's
                name.

        Raises:
            ValueError: a mask is for a metric that is not there.
        """
        mask = updates.pop("mask", None)
        unknown = set(mask) - set(self._metric_names) if isinstance(mask, dict) else ()
        if unknown:
            raise ValueError(
                f"{type(self).__name__}.update got a mask for {sorted(unknown)}, expected names of its "
                f"metrics, which are {list(self._metric_names)}. Use one of these as key."
            )
        for name in self._metric_names:
            own = mask.get(name) if isinstance(mask, dict) else mask
            getattr(self, name).update(**updates, **({} if own is None else {"mask": own}))

    def compute(self) -> dict[str, Any]:
        """Returns what each metric computes, by name."""
        return {name: getattr(self, name).compute() for name in self._metric_names}

    def merge(self, other: Metric) -> None:
        """Merges each metric with that of the same name in `other`; errors as in `Metric.merge`."""
        merging.check_alike(self, other)
        for name in self._metric_names:
            getattr(self, name).merge(getattr(other, name))

    def merge_axis(self, axis: int | AxisName) -> None:
        """Merges each metric along an axis, as `Metric.merge_axis`."""
        for name in self._metric_names:
            getattr(self, name).merge_axis(axis)


def _values(metric: Metric, argname: str, given: dict[str, Any]) -> jax.Array:
    if argname not in given:
        raise TypeError(
            f"{type(metric).__name__}.update got the arguments {sorted(given)}, expected one named "
            f"'{argname}'. Pass {argname}=..., or make the metric with the name you use."
        )
    return jnp.asarray(given[argname])


def _weights(metric: Metric, given: Any, values: jax.Array, mask: Any) -> jax.Array | None:
    """The mask in the shape of the values, so that each entry is counted."""
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    if isinstance(given, int | float) and mask.ndim:
        raise ValueError(
            f"{type(metric).__name__}.update got a mask of shape {mask.shape} for the number {given}; with a "
            "mask, the values should be a jax array. Pass the values as an array, or no mask."
        )
    try:
        return jnp.broadcast_to(mask, values.shape)
    except ValueError:
        raise ValueError(
            f"{type(metric).__name__}.update got a mask of shape {mask.shape} for values of shape "
            f"{values.shape}, expected a shape that broadcasts to the values'. Add axes of size 1, for "
            "example mask[:, None]."
        ) from None


def _masked(values: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.where(weights.astype(bool), values * weights.astype(values.dtype), 0)  # NaN times zero is NaN


def _swapped(logits: jax.Array, labels: jax.Array) -> str:
    swapped = jnp.issubdtype(logits.dtype, jnp.integer) and jnp.issubdtype(labels.dtype, jnp.floating)
    return " The two look swapped." if swapped else ""
