"""Weights from and for other programs: safetensors, NumPy and PyTorch.

`load_weights` and `save_weights` read and write files with an array for each variable; `load_torch` and
`to_torch` convert between our layers and PyTorch's, transposes included. README.md in this folder tells how
to move a model over.
"""

from __future__ import annotations

import typing as _typing

from easyflax.lazy import lazily as _lazily

if _typing.TYPE_CHECKING:
    from easyflax.interop.flax_nnx import from_flax as from_flax
    from easyflax.interop.torch_rules import Child as Child
    from easyflax.interop.torch_rules import Rule as Rule
    from easyflax.interop.torch_rules import rule as rule
    from easyflax.interop.torch_rules import torch_conversion as torch_conversion
    from easyflax.interop.torch_weights import load_torch as load_torch
    from easyflax.interop.torch_weights import to_torch as to_torch
    from easyflax.interop.transfer import Leftovers as Leftovers
    from easyflax.interop.weights import load_weights as load_weights
    from easyflax.interop.weights import save_weights as save_weights

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

# Layers look out for modules of flax, and so load this package; few programs load the rest of it.
__getattr__, __dir__ = _lazily(
    __name__,
    modules=(),
    names={
        "Child": "torch_rules",
        "Leftovers": "transfer",
        "Rule": "torch_rules",
        "from_flax": "flax_nnx",
        "load_torch": "torch_weights",
        "load_weights": "weights",
        "rule": "torch_rules",
        "save_weights": "weights",
        "to_torch": "torch_weights",
        "torch_conversion": "torch_rules",
    },
)
