"""What weights are held to after each step, under Keras's names, and `get`, which finds them by name."""

from __future__ import annotations

from easyflax.constraints.constraints import Constraint as Constraint
from easyflax.constraints.constraints import MaxNorm as MaxNorm
from easyflax.constraints.constraints import MaxNorm as max_norm
from easyflax.constraints.constraints import MinMaxNorm as MinMaxNorm
from easyflax.constraints.constraints import MinMaxNorm as min_max_norm
from easyflax.constraints.constraints import NonNeg as NonNeg
from easyflax.constraints.constraints import NonNeg as non_neg
from easyflax.constraints.constraints import UnitNorm as UnitNorm
from easyflax.constraints.constraints import UnitNorm as unit_norm
from easyflax.constraints.registry import deserialize as deserialize
from easyflax.constraints.registry import get as get
from easyflax.serialization import serialize as serialize

__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "deserialize",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "serialize",
    "unit_norm",
]
