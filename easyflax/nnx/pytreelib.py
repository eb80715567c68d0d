"""The base class of modules and what marks its attributes, under the name of the module that has them in
Flax."""

from __future__ import annotations

from easyflax.nnx.core.dataclass import check_pytree, dataclass, has_data
from easyflax.nnx.core.marks import (
    Data,
    Static,
    data,
    register_data_type,
    static,
)
from easyflax.nnx.core.module import (
    Object,
    Pytree,
    is_data,
)

__all__ = [
    "Data",
    "Object",
    "Pytree",
    "Static",
    "check_pytree",
    "data",
    "dataclass",
    "has_data",
    "is_data",
    "register_data_type",
    "static",
]
