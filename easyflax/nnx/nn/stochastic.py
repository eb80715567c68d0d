"""Layers that draw random numbers, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.layers.stochastic import (
    Dropout,
)

__all__ = [
    "Dropout",
]
