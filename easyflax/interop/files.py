"""Named arrays in the files of other programs, out and in; the format is chosen by the file's suffix.

    .safetensors                    one file; bfloat16 and float8 too
    .safetensors.index.json         an index of several such files (Hugging Face); read only
    .npz                            NumPy's own; it knows no bfloat16, see `write_arrays`
    .pt, .pth, .bin                 a PyTorch state dict; read only, and only where torch is installed

Arrays of safetensors files are read from the disk when they are used, so an array that nobody asks for costs
nothing.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from easyflax.checkpoint.safetensors_layout import (
    METADATA,
    bytes_of,
    describe,
    encode,
    is_regular_file,
    list_entries,
    little_endian,
    read_header,
    write_whole,
)
from easyflax.checkpoint.strict_json import parse
from easyflax.errors import CheckpointError
from easyflax.interop.names import shown

__all__ = ["import_torch", "read_arrays", "write_arrays"]

_INDEX = ".index.json"
_LARGEST_INDEX = 100_000_000  # bytes
# What the readers of zip, JSON and pickle files raise on content that is something else.
_DAMAGES = (
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the arrays of a file by name: NumPy arrays, or torch tensors of a PyTorch file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or holds something else.
        ImportError: it is a PyTorch file and torch is not installed.
        ValueError: the suffix is unknown, or it is a folder.
    """
    path = Path(path)
    read = _READERS.get(_suffix(path))
    if read is None:
        raise _is_folder(path) if path.is_dir() else _unknown_suffix(path, _READERS)
    if not is_regular_file(path):
        raise CheckpointError(f"{path} is no regular file, expected a file of weights. Check the path.")
    try:
        return read(path)
    except CheckpointError:  # of a file that an index names
        raise
    except _DAMAGES as error:
        raise CheckpointError(
            f"{path}: {error}; expected a whole {_suffix(path)} file of named arrays. Use another copy of "
            "the file, or the suffix of its real format."
        ) from error


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes arrays to one file, all of it or none: an older file stays until this one is whole.

    Args:
        path: ends in `.safetensors` or `.npz`.
        arrays: name to array. An `.npz` file has no place for bfloat16, float8 and the like: they are written
            as float32, which holds each of their values exactly.
        metadata: text to go along, in a safetensors file only.

    Raises:
        TypeError: an array's dtype has no place in the format.
        ValueError: the suffix is unknown, or there is metadata for an `.npz` file.
    """
    path = Path(path)
    write = _WRITERS.get(_suffix(path))
    if write is None:
        raise _unknown_suffix(path, _WRITERS)
    write(path, arrays, dict(metadata or {}))


def import_torch(call: str) -> Any:
    """Returns the module `torch`.

    Args:
        call: what needs it, for the message.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module("torch")
    except ImportError as error:
        raise ImportError(
            f"{call}: PyTorch is not installed, expected the package 'torch'. Install it with "
            'pip install "easyflax[interop]".'
        ) from error


def _suffix(path: Path) -> str:
    return _INDEX if path.name.endswith(_INDEX) else path.suffix


def _unknown_suffix(path: Path, known: Mapping[str, Any]) -> ValueError:
    return ValueError(
        f"Got the file {path.name!r}, expected a name that ends in one of {', '.join(map(repr, known))}. "
        "Rename it by its format."
    )


def _is_folder(path: Path) -> ValueError:
    names = sorted(inside.name for inside in path.iterdir() if _suffix(inside) in _READERS)
    indices = [name for name in names if name.endswith(_INDEX)]
    return ValueError(
        f"Got the folder {str(path)!r}, expected a file of weights. Pass the path of a file in it: "
        f"{shown(indices or names) or 'none has the suffix of a format known here'}."
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        header, begin = read_header(file, size)
    header.pop(METADATA, None)
    entries = list_entries(header, size - begin)
    if size == begin:  # nothing but empty arrays, and an empty part of a file cannot be mapped
        return {entry.name: np.empty(entry.shape, entry.dtype) for entry in entries}
    content = np.memmap(path, np.uint8, mode="r", offset=begin)
    return {
        entry.name: content[entry.begin : entry.end].view(entry.dtype).reshape(entry.shape)
        for entry in entries
    }


def _write_safetensors(path: Path, arrays: Mapping[str, Any], metadata: dict[str, str]) -> None:
    stored = {name: little_endian(name, array) for name, array in arrays.items()}
    # The widest dtypes first, so that every array starts at a multiple of its item's size.
    stored = dict(sorted(stored.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header = encode(({METADATA: metadata} if metadata else {}) | describe(stored))

    def write(file: io.BufferedWriter) -> None:
        file.write(header)
        for array in stored.values():
            file.write(bytes_of(array))

    write_whole(path, write)


def _read_index(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST_INDEX:
        raise ValueError("the index is larger than any real one")
    places = parse(path.read_bytes()).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError("'weight_map' does not give a file for each name")
    arrays = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or Path(name).suffix != ".safetensors":
            raise ValueError(f"{name!r} is no safetensors file beside the index")
        found = read_arrays(path.with_name(name))
        arrays |= {key: found[key] for key in found if places.get(key) == name}
    if lost := sorted(places.keys() - arrays.keys()):
        raise ValueError(f"{lost[0]!r} is not in {places[lost[0]]!r}")
    return arrays


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:  # numpy.load does not close a damaged file that it has opened itself
        content = np.load(file, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array without a name")
        return {name: _known_dtype(name, content[name]) for name in content.files}


def _known_dtype(name: str, array: np.ndarray) -> np.ndarray:
    """NumPy writes bfloat16 as two bytes of nothing in particular; no other dtype looks like that."""
    if array.dtype == np.dtype("V2"):
        return array.view(ml_dtypes.bfloat16)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"{name!r} has dtype {array.dtype}, which holds no numbers")
    return array


def _write_npz(path: Path, arrays: Mapping[str, Any], metadata: dict[str, str]) -> None:
    if metadata:
        raise ValueError(
            f"Got metadata for {path.name!r}, expected none: .npz has no place for it. Leave it out, or "
            "write a .safetensors file."
        )
    stored = {name: _known_to_numpy(name, np.asarray(array)) for name, array in arrays.items()}
    write_whole(path, lambda file: _savez(file, stored))


def _savez(file: io.BufferedWriter, arrays: Mapping[str, np.ndarray]) -> None:
    """As `numpy.savez`, which takes the names as arguments and so cannot write an array named `file`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _known_to_numpy(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.type.__module__ == "numpy" and array.dtype.kind in "biufc":
        return array
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float32)
    raise TypeError(f"{name!r} has dtype {array.dtype}, expected numbers that NumPy knows. Cast it first.")


def _read_torch(path: Path) -> dict[str, Any]:
    # Only tensors and plain containers: nothing in the file is executed.
    torch = import_torch(f"reading {path.name}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, expected a state dict")
    return dict(content)


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".safetensors": _read_safetensors,
    _INDEX: _read_index,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".bin": _read_torch,
}
_WRITERS: dict[str, Callable[[Path, Mapping[str, Any], dict[str, str]], None]] = {
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
}
