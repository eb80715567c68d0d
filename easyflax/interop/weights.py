"""Files of weights that other programs write and read, by the paths of our variables or by other names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import easyflax.nnx as nnx
from easyflax.interop.files import read_arrays, write_arrays
from easyflax.interop.flax_nnx import refresh_mirrors
from easyflax.interop.names import Names, Renamer
from easyflax.interop.outline import dotted, iter_variables, module_of
from easyflax.interop.transfer import Leftovers, Part, check_parts, load_parts, save_parts
from easyflax.nnx.core.filters import Filter, to_predicate

__all__ = ["WEIGHTS", "load_weights", "save_weights"]

WEIGHTS: Filter = (nnx.Param, nnx.BatchStat)
"""What counts as weights: no random streams, caches or values of one call."""


def save_weights(
    model: Any,
    path: str | os.PathLike[str],
    names: Names = None,
    *,
    only: Filter = WEIGHTS,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes the weights of a model into one file for other programs, all of it or none.

    For a file that only easyflax reads, `Model.save_weights` also writes sums that tell a damaged one.

    Args:
        model: an nnx module or an `easyflax.Model`. A shared variable is written once, at its first place.
        path: ends in `.safetensors` or `.npz`. In an `.npz` file bfloat16 and float8 become float32, which
            holds each of their values; `load_weights` turns them back.
        names: from our names, which are the paths joined with `"."`, to those in the file: a mapping of
            beginnings of names (whole up to a `"."`; `""` is the beginning of all, and each `"*"` stands for
            the same text on both sides), or a function of a name. None in place of a name leaves the
            variable out.
        only: a filter that selects the variables.
        metadata: text to go along in a safetensors file; some programs want `{"format": "pt"}`.

    Raises:
        TypeError: `model` has no variables, one has a dtype that the format has no place for, or `names`
            holds no names.
        ValueError: the suffix is unknown, two variables would have one name, or an entry of `names` is of no
            use.

    Examples:
        >>> import tempfile
        >>> from easyflax import interop, nnx
        >>> path = f"{tempfile.mkdtemp()}/weights.safetensors"
        >>> model = nnx.Dict(head=nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        >>> interop.save_weights(model, path, names={"head": "classifier"})
        >>> interop.load_weights(model, path, names={"head": "classifier"}).missing
        []
    """
    parts, _ = _parts(model, names, only, (), "save_weights")
    write_arrays(path, save_parts(parts, every_place=False), metadata)


def load_weights(
    model: Any,
    path: str | os.PathLike[str],
    names: Names = None,
    *,
    strict: bool = True,
    only: Filter = WEIGHTS,
) -> Leftovers:
    """Sets the weights of a model from a file that any program wrote.

    Each variable keeps its dtype and its sharding. Floats of any width are converted to it (rounded to the
    nearest, bfloat16 and float8 included), as are integers if it can hold them; no float is made of integers.

    Args:
        model: an nnx module, also an abstract one that `nnx.eval_shape` returned, or an `easyflax.Model`.
        path: ends in `.safetensors`, `.safetensors.index.json` (an index of several such files, in the same
            folder), `.npz`, or, where torch is installed, `.pt`, `.pth` or `.bin`.
        names: from our names to those in the file, as in `save_weights`. Variables with None in place of a
            name are left as they are, and a mapping with None also passes over arrays of that name.
        strict: whether it is an error if a variable has no array, an array has no variable, or a shape or
            dtype does not fit; then nothing is changed. Otherwise all that fits is loaded.
        only: a filter that selects the variables; the others are left as they are.

    Returns:
        what was not loaded: names that are missing or unexpected, and what does not fit.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, or holds something else.
        TypeError: `model` has no variables, or `names` holds no names.
        ValueError: `strict`, and not all fits; the suffix is unknown; or an entry of `names` is of no use.
        ImportError: it is a PyTorch file, and torch is not installed.
    """
    arrays, module = read_arrays(path), module_of(model, "load_weights")
    parts, left_out = _parts(module, names, only, arrays, "load_weights")
    left = load_parts(parts, arrays, call="load_weights", strict=strict, known=left_out)
    refresh_mirrors(module)
    return left


def _parts(
    model: Any, names: Names, only: Filter, theirs: Iterable[str], call: str
) -> tuple[list[Part], list[str]]:
    """A part for each place of each variable, and the names of what is left out.

    Args:
        model: what the user passed, as the next two.
        names: from our names to theirs.
        only: selects the variables.
        theirs: the names in the file.
        call: the function the user called, for messages.
    """
    rename, selected = Renamer(names), to_predicate(only)
    parts: list[Part] = []
    left_out: list[str] = []
    ours: list[str] = []
    for path, variable in iter_variables(module_of(model, call), (WEIGHTS, only)):
        name = dotted(path)
        new = rename(name)
        ours.append(name)
        if new is None or not selected(path, variable):
            left_out.append(new or name)
        else:
            parts.append(Part(name, (variable,), (new,), _same, _same))
    left_out += rename.left_out(theirs)
    rename.check_used(ours, call)
    check_parts(parts, call)
    return parts, left_out


def _same(array: np.ndarray) -> tuple[np.ndarray]:
    return (array,)
