"""Weights from and for other programs: safetensors, NumPy and PyTorch.

`load_weights` and `save_weights` read and write files with an array for each variable; `load_torch` and
`to_torch` convert between our layers and PyTorch's, transposes included. README.md in this folder tells how
to move a model over.
"""

from __future__ import annotations

from easyflax.interop.flax_nnx import from_flax
from easyflax.interop.torch_rules import Child, Rule, rule, torch_conversion
from easyflax.interop.torch_weights import load_torch, to_torch
from easyflax.interop.transfer import Leftovers
from easyflax.interop.weights import load_weights, save_weights

__all__ = [
    "Child",
    "Leftovers",
    "Rule",
    "from_flax",
    "load_torch",
    "load_weights",
    "rule",
    "save_weights",
    "to_torch",
    "torch_conversion",
]
