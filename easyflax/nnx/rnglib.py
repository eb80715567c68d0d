"""Random streams, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.core.rng_splits import fork_rngs, reseed, restore_rngs, split_rngs, with_rngs
from easyflax.nnx.core.rngs import RngCount, RngKey, Rngs, RngState, RngStream

__all__ = [
    "RngCount",
    "RngKey",
    "RngState",
    "RngStream",
    "Rngs",
    "fork_rngs",
    "reseed",
    "restore_rngs",
    "split_rngs",
    "with_rngs",
]
