"""Values that modules add to the logs, such as one term of a loss.

    self.add_metric(divergence, name="kl")     a layer or model
    self.sow(MetricTerm, "kl", divergence)     any module: what it sows under goes into the logs

The logs show their mean: over the calls of one batch, and over the batches of the epoch by their rows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax.layers.loss_term import checked_scalar, put_term

__all__ = ["MetricTerm", "add_metric", "metric_terms"]

_NAME = "metric_term"


class MetricTerm(nnx.Intermediate[Any]):
    """A scalar whose mean over the epoch is logged; any module may `sow` one.

    Examples:
        >>> import easyflax as ef
        >>> class Watched(nnx.Linear):
        ...     def __call__(self, x):
        ...         y = super().__call__(x)
        ...         self.sow(ef.layers.MetricTerm, "size", jnp.mean(y**2))
        ...         return y
        >>> model = ef.Model(Watched(3, 3, rngs=nnx.Rngs(0)))
        >>> model.compile("sgd", "mse")
        >>> model.evaluate(jnp.zeros((8, 3)), jnp.ones((8, 3)), verbose=0, return_dict=True)
        {'loss': 1.0, 'size': 0.0}
    """


def add_metric(module: nnx.Module, value: Any, name: str) -> None:
    """Adds a scalar to what a module logs; see `put_term`.

    Raises:
        TypeError: `value` is symbolic, or `name` no string.
        ValueError: `value` is no scalar.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"add_metric: name is {name!r}, expected a string. Pass the name in the logs.")
    put_term(module, MetricTerm, _NAME, {name: (checked_scalar(module, value, "add_metric"),)}, _together)


def _together(earlier: dict[str, tuple[Any, ...]], added: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {**earlier, **{name: (*earlier.get(name, ()), *values) for name, values in added.items()}}


def metric_terms(module: nnx.Module) -> dict[str, jax.Array]:
    """Returns the mean of what a module and those inside sowed or added under each name."""
    found: dict[str, list[Any]] = {}
    for path, variable in nnx.to_flat_state(nnx.state(module, MetricTerm)):
        value = variable.get_raw_value()
        by_name = value if isinstance(value, dict) else {str(path[-1]): value}
        for name, values in by_name.items():
            found.setdefault(name, []).extend(jax.tree.leaves(values))
    return {name: _mean(values) for name, values in found.items()}


def _mean(values: list[Any]) -> jax.Array:
    """Returns the mean of scalars, which transforms such as `nnx.vmap` and `nnx.scan` stack."""
    return jnp.mean(
        jnp.concatenate([jnp.ravel(value).astype(jnp.float32) for value in map(jnp.asarray, values)])
    )
