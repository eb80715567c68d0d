"""The layers, under the names of the modules that have them in Flax; `easyflax.nnx.layers` defines them."""

from __future__ import annotations

from easyflax.nnx.nn import (
    activations,
    attention,
    dtypes,
    initializers,
    linear,
    lora,
    normalization,
    recurrent,
    stochastic,
)

__all__ = [
    "activations",
    "attention",
    "dtypes",
    "initializers",
    "linear",
    "lora",
    "normalization",
    "recurrent",
    "stochastic",
]
