"""Containers of modules and a training state, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.core.containers import (
    Dict,
    List,
)
from easyflax.nnx.layers.sequential import (
    Sequential,
)
from easyflax.nnx.training.train_state import (
    TrainState,
)

__all__ = [
    "Dict",
    "List",
    "Sequential",
    "TrainState",
]
