"""Penalties on weights and outputs under Keras's names, and `get`, which finds them by name."""

from __future__ import annotations

from easyflax.regularizers.registry import deserialize as deserialize
from easyflax.regularizers.registry import get as get
from easyflax.regularizers.regularizers import L1 as L1
from easyflax.regularizers.regularizers import L1 as l1
from easyflax.regularizers.regularizers import L1L2 as L1L2
from easyflax.regularizers.regularizers import L1L2 as l1_l2
from easyflax.regularizers.regularizers import L2 as L2
from easyflax.regularizers.regularizers import L2 as l2
from easyflax.regularizers.regularizers import OrthogonalRegularizer as OrthogonalRegularizer
from easyflax.regularizers.regularizers import OrthogonalRegularizer as orthogonal_regularizer
from easyflax.regularizers.regularizers import Regularizer as Regularizer
from easyflax.serialization import serialize as serialize

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "Regularizer",
    "deserialize",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
    "serialize",
]
