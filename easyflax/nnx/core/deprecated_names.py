"""Names of `easyflax.nnx` that have been given up, for programs that still use them."""

from __future__ import annotations

import warnings
from typing import Any

from easyflax.nnx.core.variables import Variable

__all__ = ["__getattr__"]


def __getattr__(name: str) -> Any:
    """Returns what has taken the place of a name, with a warning; the facade uses it as its own."""
    if name == "VariableState":
        warnings.warn(
            "nnx.VariableState is nnx.Variable by another name: use nnx.Variable.",
            DeprecationWarning,
            stacklevel=2,
        )
        return Variable
    raise AttributeError(f"module 'easyflax.nnx' has no attribute '{name}'")
