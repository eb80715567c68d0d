"""Normalization layers, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.layers.batch_norm import (
    BatchNorm,
)
from easyflax.nnx.layers.normalization import (
    GroupNorm,
    LayerNorm,
    RMSNorm,
)

__all__ = [
    "BatchNorm",
    "GroupNorm",
    "LayerNorm",
    "RMSNorm",
]
