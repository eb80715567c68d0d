"""How metrics that saw parts of the data become one that saw all of it.

A metric says in `combined(parts, total)` what to accumulate in place of the parts, where `total` sums over
all of them. The same formula then serves two objects, an axis of arrays, and an axis of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.nnx.core import graph
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.variables import Variable

__all__ = ["AxisName", "Combined", "Parts", "Total", "check_alike", "merge", "merge_axis"]

Parts = dict[str, jax.Array]  # what a metric has accumulated, by the name of the variable
Total = Callable[[jax.Array], jax.Array]
Combined = Callable[[Parts, Total], Parts]
AxisName = str | tuple[str, ...]


def merge(metric: Pytree, other: Pytree, combined: Combined) -> None:
    """Merges `other` into `metric`, in place.

    Raises:
        TypeError, ValueError: they are not alike.
        NotImplementedError: the formula does not cover all that the metric accumulates.
    """
    check_alike(metric, other)
    mine, theirs = _parts(metric), _parts(other)
    for name, value in mine.items():
        if theirs[name].shape != value.shape:
            raise ValueError(
                f"{_name(metric)}.merge got a metric with '{name}' of shape {theirs[name].shape}, expected "
                f"{value.shape}. Call merge_axis first on the one that has an axis more."
            )
    parts = {name: jnp.stack([value, theirs[name]]) for name, value in mine.items()}
    _set(metric, parts, combined(parts, _sum_over_first), "merge")


def merge_axis(metric: Pytree, axis: int | AxisName, combined: Combined) -> None:
    """Merges `metric` with itself along an axis of its arrays, or along a named one, in place.

    Raises:
        ValueError: there is no axis of that number.
        NotImplementedError: the formula does not cover all that the metric accumulates.
    """
    parts = _parts(metric)
    if isinstance(axis, int):
        for name, value in parts.items():
            _check_axis(metric, name, value, axis)
        parts = {name: jnp.moveaxis(value, axis, 0) for name, value in parts.items()}
        merged = combined(parts, _sum_over_first)
    else:
        merged = combined(parts, lambda value: jax.lax.psum(value, axis))
    _set(metric, parts, merged, "merge_axis")


def check_alike(metric: Pytree, other: Any) -> None:
    """Checks that two metrics can be merged.

    Raises:
        TypeError: they are of different types.
        ValueError: they have different settings.
    """
    if type(other) is not type(metric):
        raise TypeError(
            f"{_name(metric)}.merge got a {_name(other)}, expected a {_name(metric)}. Merge metrics of the "
            "same type."
        )
    settings, others = _settings(metric), _settings(other)
    if settings != others:
        raise ValueError(
            f"{_name(metric)}.merge got a metric with the settings {others}, expected {settings}. Merge "
            "metrics that were made alike."
        )


def _parts(metric: Pytree) -> Parts:
    return {
        name: jnp.asarray(value.get_value())
        for name, value in vars(metric).items()
        if isinstance(value, Variable)
    }


def _settings(metric: Pytree) -> dict[str, Any]:
    accumulated = set(graph.state(metric))
    return {name: value for name, value in vars(metric).items() if name not in accumulated}


def _set(metric: Pytree, parts: Parts, merged: Parts, method: str) -> None:
    accumulated = set(graph.state(metric))
    if not accumulated or accumulated - merged.keys():
        raise NotImplementedError(
            f"{_name(metric)}.{method} does not know how to merge "
            f"{sorted(accumulated - merged.keys()) or 'its attributes'}, expected a formula for all that a "
            f"metric accumulates. Define {_name(metric)}.{method}."
        )
    for name, value in merged.items():
        getattr(metric, name).set_value(value.astype(parts[name].dtype))


def _check_axis(metric: Pytree, name: str, value: jax.Array, axis: int) -> None:
    if not -value.ndim <= axis < value.ndim:
        raise ValueError(
            f"{_name(metric)}.merge_axis got axis={axis}, expected an axis of '{name}', which has the shape "
            f"{value.shape}. Call it on what nnx.vmap returned, or pass the name of a mesh axis."
        )


def _name(value: Any) -> str:
    return type(value).__name__


def _sum_over_first(value: jax.Array) -> jax.Array:
    return value.sum(axis=0, dtype=value.dtype)
