"""Variables and their kinds, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.core.variable_names import (
    register_variable_name,
    variable_name_from_type,
    variable_type_from_name,
)
from easyflax.nnx.core.variables import (
    A,
    BatchStat,
    Cache,
    Intermediate,
    Param,
    Perturbation,
    Variable,
    VariableMetadata,
    with_metadata,
)

__all__ = [
    "A",
    "BatchStat",
    "Cache",
    "Intermediate",
    "Param",
    "Perturbation",
    "Variable",
    "VariableMetadata",
    "register_variable_name",
    "variable_name_from_type",
    "variable_type_from_name",
    "with_metadata",
]
