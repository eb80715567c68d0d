"""What a metric is: variables on the device that batches are added to, and a result that is read from them.

A metric works in two ways. By itself it is stateful: `update_state(...)`, `result()`, `reset_state()`. For
`jax.jit`, `jax.lax.scan` and the training steps there are the same three as pure functions of the values of
its variables: `stateless_update_state`, `stateless_result`, `stateless_reset_state`. Whoever writes a metric
writes the stateful ones only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.initializers as initializers
import easyflax.nnx as nnx
from easyflax.metrics.accumulate import Total, TotalState, zero
from easyflax.naming import snake_case
from easyflax.nnx.training.metrics import MetricState

__all__ = ["Metric", "State", "noting_builds"]

M = TypeVar("M", bound="Metric")
State = Sequence[Any]  # the values of a metric's variables, or the variables


_NOTES: ContextVar[list[tuple[Any, Any]] | None] = ContextVar("easyflax_metric_builds", default=None)


@contextmanager
def noting_builds() -> Iterator[list[tuple[Any, Any]]]:
    """Collects the metrics that make their variables within, and for what data.

    The list that it gives has a `(metric, (y_true, y_pred))` for each, with `jax.ShapeDtypeStruct`s in place
    of arrays: what `build_for` takes. So a step can be traced on a copy of its metrics, and the metrics
    themselves built afterwards.
    """
    notes: list[tuple[Any, Any]] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


class Metric(nnx.Module):
    """The base class of all metrics.

    A metric of one's own makes its variables in `__init__` with `add_variable` or `add_total`, adds a batch
    to them in `update_state`, and reads them in `result`, which returns a scalar or a dict of scalars.

    Args:
        dtype: of the result, and of the computation where it is wider than float32; None for float32.
        name: the name in logs; the class's name in snake case when left out.

    Examples:
        >>> import jax.numpy as jnp
        >>> class Largest(Metric):
        ...     def __init__(self, name="largest", **kwargs):
        ...         super().__init__(name=name, **kwargs)
        ...         self.largest = self.add_variable((), "zeros", name="largest")
        ...     def update_state(self, y_true, y_pred, sample_weight=None):
        ...         self.largest.assign(jnp.maximum(self.largest, jnp.max(y_pred)))
        ...     def result(self):
        ...         return self.largest
        >>> metric = Largest()
        >>> metric.update_state([0.0, 0.0], jnp.array([3.0, 5.0]))
        >>> float(metric.result())
        5.0
        >>> state = metric.stateless_update_state(metric.stateless_reset_state(), [0.0], jnp.array([2.0]))
        >>> float(metric.stateless_result(state)), float(metric.result())
        (2.0, 5.0)
    """

    # For callbacks with `mode="auto"`: "up" when more is better, "down" when less is, None: nobody knows.
    _direction: str | None = None
    # Whether a weight of zero leaves a row out of `update_state`, as if it had not been there. It holds for
    # the class that states it and for subclasses without an `update_state` of their own.
    _weight_zero_leaves_out = False
    _attribute_order: tuple[str, ...] = ()
    _apart_from_layers = True  # a model that has one as an attribute does not count it among its layers

    def __init__(self, dtype: Any = None, name: str | None = None):
        self.name = name or snake_case(type(self).__name__)
        self._dtype = _dtype_name(dtype)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"

    # -- for subclasses

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Adds a batch; for subclasses to define, mostly as `(y_true, y_pred, sample_weight=None)`."""
        raise NotImplementedError(self._missing("update_state"))

    def result(self) -> Any:
        """Returns the metric over all that was added: a scalar, or a dict of scalars."""
        raise NotImplementedError(self._missing("result"))

    def add_variable(
        self,
        shape: Any,
        initializer: Any,
        dtype: Any = None,
        aggregation: str | None = "sum",
        name: str | None = None,
    ) -> Any:
        """Returns a new variable to accumulate in; assign it to an attribute.

        Args:
            shape: of the variable.
            initializer: where it starts, see `easyflax.initializers`; None for zeros.
            dtype: float32 by default.
            aggregation: how the values of several metrics become one, see `merge_state`: "sum", "mean",
                "only_first_replica", or None where there is no such rule.
            name: what `variable.name` says.

        Raises:
            RuntimeError: `super().__init__()` was not called before.
            TypeError: the shape is a string, as where a name comes first.
            ValueError: `aggregation` is unknown.
        """
        self._check_initialized()
        if aggregation not in _AGGREGATIONS:
            raise ValueError(
                f"add_variable: aggregation is {aggregation!r}, expected one of {list(_AGGREGATIONS)}. Leave "
                "it out for sums."
            )
        if isinstance(shape, str):
            raise TypeError(
                f"{self.name}: a variable was to have the shape {shape!r}, expected a tuple of sizes. Pass "
                f"the name by keyword: name={shape!r}."
            )
        make: Any = initializers.get("zeros" if initializer is None else initializer)
        shape = (shape,) if isinstance(shape, int) else tuple(shape or ())
        value = jnp.asarray(make(shape, dtype=jnp.dtype(dtype or "float32")))
        return MetricState(value, name=name, initializer=make, aggregation=aggregation)

    def add_weight(
        self, shape: Any = (), initializer: Any = None, dtype: Any = None, name: str | None = None
    ) -> Any:
        """Returns a new variable: `add_variable` under its older name."""
        return self.add_variable(shape, initializer, dtype=dtype, name=name)

    def add_total(self, shape: Any = (), name: str | None = None) -> Any:
        """Returns a variable of zeros whose `assign_add` is exact, however many batches are added.

        Args:
            shape: of the variable.
            name: what `variable.name` says.
        """
        self._check_initialized()
        return TotalState(zero(tuple(shape), self._dtype), name=name, aggregation="sum")

    def build_for(self, y_true: Any, y_pred: Any) -> None:
        """Makes the variables, where their shapes are known from the first batch only; else does nothing.

        A metric of one's own that makes variables in its first `update_state` gets a batch of zeros, and
        forgets it.

        Args:
            y_true: labels, arrays or `jax.ShapeDtypeStruct`s.
            y_pred: outputs, likewise.
        """
        if _is_ours(self) or not self._makes_variables(y_true, y_pred):
            return
        self.update_state(*jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), (y_true, y_pred)))
        self.reset_state()

    def _note_build(self, y_true: Any, y_pred: Any) -> None:
        """Tells `noting_builds` that the variables are being made, for data of these shapes and dtypes."""
        notes = _NOTES.get()
        if notes is not None:
            specs = jax.tree.map(
                lambda array: jax.ShapeDtypeStruct(jnp.shape(array), jnp.result_type(array)), (y_true, y_pred)
            )
            notes.append((self, specs))

    # -- what it holds

    @property
    def dtype(self) -> str:
        """The dtype of the result."""
        return self._dtype

    @property
    def direction(self) -> str | None:
        """`"max"` when more is better, `"min"` when less is, None where nobody knows."""
        return {"up": "max", "down": "min"}.get(self._direction or "")

    @property
    def variables(self) -> list[Any]:
        """The variables in the order in which they were made, then those of metrics inside of this one."""
        held = [one for name in self._attribute_order for one in _held(vars(self).get(name))]
        own = [one for one in held if isinstance(one, nnx.Variable)]
        nested = [variable for one in held if isinstance(one, Metric) for variable in one.variables]
        return list({id(variable): variable for variable in (*own, *nested)}.values())

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        """Returns whether a weight of zero leaves a row out entirely; False where that is not known.

        Args:
            y_true: labels, arrays or `jax.ShapeDtypeStruct`s.
            y_pred: outputs, likewise.
        """
        del y_true, y_pred
        owner = next(cls for cls in type(self).__mro__ if "update_state" in vars(cls))
        return bool(vars(owner).get("_weight_zero_leaves_out", False))

    # -- stateful

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a batch and returns the result so far."""
        self._check_initialized()
        self.update_state(*args, **kwargs)
        return self.result()

    def reset_state(self) -> None:
        """Forgets everything added: the variables are what they were at first."""
        for variable in self.variables:
            make = variable.get_metadata("initializer", jnp.zeros)
            variable.assign(make(variable.shape, dtype=variable.dtype))

    def merge_state(self, metrics: Iterable[Metric]) -> None:
        """Takes in what other metrics have accumulated, as if this one had seen all of it.

        Args:
            metrics: of the same class and settings; they stay as they are.

        Raises:
            TypeError: one is of another class.
            ValueError: its variables have other shapes, or there is no rule for one of them.
        """
        metrics = list(metrics)
        for other in metrics:
            self._check_mergeable(other)
        for variable, *others in zip(self.variables, *(other.variables for other in metrics), strict=True):
            _AGGREGATIONS[variable.get_metadata("aggregation", "sum")](variable, others)

    # -- stateless

    def stateless_update_state(self, metric_variables: State, *args: Any, **kwargs: Any) -> list[Any]:
        """Returns the values of the variables after a batch; the metric itself stays as it is.

        Args:
            metric_variables: the values before it, as from `stateless_reset_state`, or variables.
            *args: as for `update_state`.
            **kwargs: as for `update_state`.

        Raises:
            ValueError: the values are not one for each variable, or the metric has made variables meanwhile.
        """
        metric = self._with(metric_variables)
        metric.update_state(*args, **kwargs)
        return metric._values_like(metric_variables)

    def stateless_result(self, metric_variables: State) -> Any:
        """Returns the result for values of the variables: a scalar, or a dict of scalars.

        Raises:
            ValueError: the values are not one for each variable.
        """
        result = self._with(metric_variables).result()
        return jax.tree.map(_value_of, result, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))

    def stateless_reset_state(self) -> list[Any]:
        """Returns the values of the variables before the first batch; those of exact sums are `Total`s."""
        metric = nnx.clone(self)
        metric.reset_state()
        return [variable.get_raw_value() for variable in metric.variables]

    def stateless_merge_state(self, states: Iterable[State]) -> list[Any]:
        """Returns the values of the variables of a metric that saw what several have seen.

        Args:
            states: at least one; what `stateless_update_state` returned, on parts of the data.

        Raises:
            ValueError: there are none, or there is no rule for a variable.
        """
        states = list(states)
        if not states:
            raise ValueError(
                f"{self.name}: got no states to merge, expected at least one. Pass what "
                "stateless_update_state returned."
            )
        first, *others = (self._with(state) for state in states)
        first.merge_state(others)
        return first._values_like(states[0])

    # -- configuration

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this metric again, as plain JSON by Keras's keys."""
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls: type[M], config: Mapping[str, Any]) -> M:
        """Returns a new metric of what `get_config` returned."""
        return cls(**config)

    # -- inside

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name not in self._attribute_order and name != "_attribute_order":
            self._attribute_order = (*self._attribute_order, name)

    def _with(self, values: State) -> Any:
        """Returns a copy of this metric whose variables have these values."""
        metric = nnx.clone(self)
        variables = metric.variables
        if len(values) != len(variables):
            raise ValueError(
                f"{self.name}: got {len(values)} metric_variables, expected {len(variables)}, one for each "
                f"of {type(self).__name__}.variables. Pass what stateless_reset_state() returned; where "
                "variables are made from the first batch, call build_for(y_true, y_pred) before."
            )
        for variable, value in zip(variables, values, strict=True):
            raw = value.get_raw_value() if isinstance(value, nnx.Variable) else value
            if isinstance(variable, TotalState) and not isinstance(raw, Total):
                raw = Total(jnp.asarray(raw), jnp.zeros_like(raw))
            variable.set_raw_value(raw)
        return metric

    def _values_like(self, values: State) -> list[Any]:
        """Returns the values of the variables, of exact sums plain arrays where `values` has those."""
        variables = self.variables
        if len(variables) != len(values):
            raise ValueError(
                f"{self.name} made variables in update_state, expected all {len(variables)} of them before. "
                "Make them in __init__, or call build_for(y_true, y_pred) with the first batch."
            )
        plain = [isinstance(value, jax.Array | np.ndarray | float | int) for value in values]
        return [
            variable.get_value() if is_plain else variable.get_raw_value()
            for variable, is_plain in zip(variables, plain, strict=True)
        ]

    def _makes_variables(self, y_true: Any, y_pred: Any) -> bool:
        counts = []

        def update(y_true: Any, y_pred: Any) -> None:
            metric = nnx.clone(self)
            counts.append(len(metric.variables))
            metric.update_state(y_true, y_pred)
            counts.append(len(metric.variables))

        jax.eval_shape(update, y_true, y_pred)
        return counts[0] != counts[1]

    def _check_mergeable(self, other: Metric) -> None:
        if type(other) is not type(self):
            raise TypeError(
                f"{self.name}: merge_state got a {type(other).__name__}, expected a {type(self).__name__}. "
                "Merge metrics of one class and of the same settings."
            )
        shapes, others = ([variable.shape for variable in one.variables] for one in (self, other))
        if shapes != others:
            raise ValueError(
                f"{self.name}: merge_state got a metric with variables of shapes {others}, expected "
                f"{shapes}. Merge metrics of the same settings."
            )

    def _check_initialized(self) -> None:
        if "_dtype" not in vars(self):
            raise RuntimeError(
                f"{type(self).__name__} has not been set up, expected a call of super().__init__() first in "
                "its __init__. Add it."
            )

    def _missing(self, method: str) -> str:
        return (
            f"{type(self).__name__} has no {method}, expected a metric to define update_state and result. "
            f"Define {type(self).__name__}.{method}."
        )


def _held(value: Any) -> Iterator[Any]:
    """Iterates over the variables and metrics in an attribute, also in lists, tuples and dicts."""
    if isinstance(value, nnx.Variable | Metric):
        yield value
    elif isinstance(value, list | tuple | nnx.List):
        for item in value:
            yield from _held(item)
    elif isinstance(value, dict | nnx.Dict):
        for item in value.values():
            yield from _held(item)


def _is_ours(metric: Metric) -> bool:
    return type(metric).update_state.__module__.partition(".")[0] == __name__.partition(".")[0]


def _value_of(result: Any) -> Any:
    return result.get_value() if isinstance(result, nnx.Variable) else result


def _dtype_name(dtype: Any) -> str:
    """Returns the name of a dtype, or of the compute dtype of a policy."""
    if isinstance(dtype, Mapping):  # as Keras writes policies
        dtype = dtype.get("config", {}).get("name")
    dtype = getattr(dtype, "compute_dtype", dtype)
    if isinstance(dtype, str):
        dtype = dtype.removeprefix("mixed_")
    try:
        return jnp.dtype("float32" if dtype is None else dtype).name
    except TypeError as error:
        raise ValueError(
            f"dtype is {dtype!r}, expected a dtype such as 'float32'. Leave it out for float32."
        ) from error


def _sum(variable: Any, others: list[Any]) -> None:
    for other in others:
        variable.assign_add(other)


def _mean(variable: Any, others: list[Any]) -> None:
    variable.assign(sum((other.get_value() for other in others), variable.get_value()) / (1 + len(others)))


def _first(variable: Any, others: list[Any]) -> None:
    del variable, others


def _refuse(variable: Any, others: list[Any]) -> None:
    if others:
        raise ValueError(
            f"merge_state: the variable {variable.get_metadata('name', None)!r} has no rule to merge its "
            "values, expected an aggregation such as 'sum'. Pass one to add_variable, or define merge_state."
        )


_AGGREGATIONS: dict[str | None, Callable[[Any, list[Any]], None]] = {
    "sum": _sum,
    "mean": _mean,
    "only_first_replica": _first,
    None: _refuse,
    "none": _refuse,
}
