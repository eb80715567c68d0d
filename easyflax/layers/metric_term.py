"""Values that modules add to the logs, such as one term of a loss.

They are values that a module sows, of the kind `MetricTerm`: the name that it sows under is the name in the
logs, which show the mean over the batches of the epoch.

    self.sow(MetricTerm, "kl", divergence)     any module
    self.add_metric(divergence, name="kl")     a layer or model
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx

__all__ = ["MetricTerm", "metric_terms"]


class MetricTerm(nnx.Intermediate[Any]):
    """A scalar whose mean over the epoch is logged."""


def metric_terms(module: nnx.Module) -> dict[str, jax.Array]:
    """Returns the mean of what a module and those inside sowed under each name.

    Raises:
        ValueError: one is no scalar.
    """
    found: dict[str, list[Any]] = {}
    for path, variable in nnx.to_flat_state(nnx.state(module, MetricTerm)):
        found.setdefault(str(path[-1]), []).extend(jax.tree.leaves(variable.get_raw_value()))
    for name, values in found.items():
        for value in values:
            if jnp.shape(value) != ():
                raise ValueError(
                    f"The metric {name!r} was added with shape {jnp.shape(value)}, expected a scalar. Take "
                    "its mean."
                )
    return {name: jnp.mean(jnp.asarray(values, jnp.float32)) for name, values in found.items()}
