"""Normalization layers, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.layers.batch_norm import BatchNorm
from easyflax.nnx.layers.group_norm import GroupNorm
from easyflax.nnx.layers.instance_norm import InstanceNorm
from easyflax.nnx.layers.normalization import LayerNorm, RMSNorm
from easyflax.nnx.layers.spectral_norm import SpectralNorm
from easyflax.nnx.layers.weight_norm import WeightNorm

__all__ = [
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
    "SpectralNorm",
    "WeightNorm",
]
