"""PyTorch state dicts, into and out of our modules."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

# Imported for the conversions that they register.
from easyflax.interop import torch_attention as torch_attention
from easyflax.interop import torch_layers as torch_layers
from easyflax.interop import torch_recurrent as torch_recurrent
from easyflax.interop.files import import_torch, read_arrays
from easyflax.interop.flax_nnx import refresh_mirrors
from easyflax.interop.names import Names, Renamer
from easyflax.interop.outline import module_of, outline
from easyflax.interop.torch_rules import Found, find_parts
from easyflax.interop.transfer import Leftovers, check_parts, load_parts, save_parts
from easyflax.interop.weights import WEIGHTS
from easyflax.nnx.core.filters import Filter

__all__ = ["load_torch", "to_torch"]


def load_torch(
    model: Any,
    state_dict: Any,
    names: Names = None,
    *,
    strict: bool = True,
    only: Filter = WEIGHTS,
) -> Leftovers:
    """Sets the weights of a model from those of a PyTorch model.

    Each layer's weights are converted by its type: a `Linear` kernel is the transposed weight, a `Conv`
    kernel has its axes at other places, an `LSTMCell`'s bias is the sum of two. README.md beside this file
    has the table, and says which options give the same numbers. Dtypes are converted as in `load_weights`.

    Args:
        model: an nnx module, also an abstract one that `nnx.eval_shape` returned, or an `easyflax.Model`.
        state_dict: torch tensors or arrays by name, a torch module, or the path of a file, as in
            `load_weights`. Files with pickles are loaded with `weights_only=True`: nothing in them is
            executed.
        names: from the names that a PyTorch model with the same attributes would have (the keys of
            `to_torch(model)`) to those in `state_dict`: a mapping of beginnings of names (whole up to a
            `"."`; `""` is the beginning of all, and each `"*"` stands for the same text on both sides), or a
            function of a name. None in place of a name leaves the weights as they are, and a mapping with
            None also passes over their tensors of that name.
        strict: whether it is an error if weights are missing, are not of use, or do not fit; then nothing is
            changed. Otherwise all that fits is loaded.
        only: a filter that selects the variables; the others are left as they are.

    Returns:
        what was not loaded: names that are missing or unexpected, and what does not fit.

    Raises:
        TypeError: `model` has no variables, `state_dict` holds something else than arrays, or `names` holds
            no names.
        ValueError: `strict`, and not all fits; or an entry of `names` is of no use.
        FileNotFoundError, CheckpointError: there is no such file, or it is damaged.
        ImportError: it is a PyTorch file, and torch is not installed.

    Examples:
        >>> from easyflax import interop, nnx
        >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> weight = np.arange(6.0).reshape(3, 2)  # (out, in), as PyTorch has it
        >>> left = interop.load_torch(model, {"weight": weight, "bias": np.zeros(3)})
        >>> model.kernel.value.tolist()
        [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    """
    arrays, module = _arrays(state_dict, "load_torch"), module_of(model, "load_torch")
    found = _find(module, names, only, arrays, "load_torch")
    left = load_parts(
        found.parts,
        arrays,
        call="load_torch",
        strict=strict,
        known=found.left_out,
        misfits=found.problems,
    )
    refresh_mirrors(module)
    return left


def to_torch(model: Any, names: Names = None, *, only: Filter = WEIGHTS, like: Any = None) -> dict[str, Any]:
    """Returns the weights of a model as a PyTorch state dict: the way back from `load_torch`.

    Args:
        model: an nnx module or an `easyflax.Model`. A shared module is written at each of its places.
        names: as in `load_torch`.
        only: a filter that selects the variables.
        like: what `load_torch` got, or would get, as `state_dict`. Layers that PyTorch stores in several ways
            (attention, in one tensor or in four `Linear` layers) are then written as it has them, and `names`
            may pass over tensors that only it has.

    Returns:
        new torch tensors on the CPU by name, of the variables' dtypes.

    Raises:
        ImportError: torch is not installed.
        TypeError: `model` has no variables, `like` is no state dict, or `names` holds no names.
        ValueError: a layer has no counterpart in PyTorch; or an entry of `names` is of no use.
    """
    torch = import_torch("to_torch")
    theirs = None if like is None else _arrays(like, "to_torch")
    found = _find(model, names, only, theirs, "to_torch")
    if found.problems:
        raise ValueError(
            "to_torch: the model has layers that cannot be converted:\n  "
            + "\n  ".join(found.problems)
            + "\nexpected layers that PyTorch has. Leave them out with names={...: None} or only=..., or "
            "add conversions."
        )
    arrays = save_parts(found.parts, every_place=True)
    return {name: _tensor(torch, array) for name, array in arrays.items()}


def _find(model: Any, names: Names, only: Filter, arrays: Mapping[str, Any] | None, call: str) -> Found:
    rename, theirs = Renamer(names), arrays or {}
    found = find_parts(outline(module_of(model, call)), rename, only, theirs.__contains__)
    found.left_out.extend(rename.left_out(theirs))
    advice = ", or pass like= the state dict that has such names" if arrays is None else ""
    rename.check_used(found.names, call, advice)
    check_parts(found.parts, call)
    return found


def _arrays(state_dict: Any, call: str) -> Mapping[str, Any]:
    if isinstance(state_dict, (str, os.PathLike)):
        return read_arrays(state_dict)
    if callable(getattr(state_dict, "state_dict", None)):
        state_dict = state_dict.state_dict()
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"{call}: got a state dict of type {type(state_dict).__name__}, expected tensors or arrays "
            "by name. Pass module.state_dict(), or the path of a file."
        )
    return state_dict


def _tensor(torch: Any, array: np.ndarray) -> Any:
    """A tensor with memory of its own; bfloat16 and float8 go through float32, which holds their values."""
    if array.dtype.type.__module__ == "numpy":
        return torch.from_numpy(np.array(array, order="C"))
    return torch.from_numpy(array.astype(np.float32)).to(getattr(torch, array.dtype.name))
