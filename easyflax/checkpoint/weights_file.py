"""Weights in one file: the safetensors layout, with SHA-256 sums in its header.

    8 bytes   length of the header, little-endian
    header    JSON: {name: {"dtype", "shape", "data_offsets"}, ..., "__metadata__": {str: str}}, padded with
    spaces data      the arrays one after the other, little-endian, without gaps

The safetensors library reads these files. In the other direction, only files with our sums are read: a
changed file is refused, never loaded with other values. Nothing in a file is imported, executed or followed.

Source: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from easyflax.checkpoint.strict_json import canonical, parse, sha256
from easyflax.checkpoint.tree import is_key
from easyflax.errors import CheckpointError

__all__ = ["load_weights", "save_weights"]

_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAME_OF_DTYPE = {dtype: name for name, dtype in _DTYPES.items()}
_METADATA = "__metadata__"
_LARGEST_HEADER = 100_000_000  # what the safetensors library accepts
_MOST_AXES = 32


class _Entry(NamedTuple):
    """One array as the header describes it."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def save_weights(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Writes arrays to one file, all of it or none: an older file stays until this one is whole.

    Args:
        path: the file; its folder is made where it is missing.
        arrays: name to array (NumPy, JAX, or typed PRNG keys).

    Raises:
        TypeError: an array's dtype has no place in the format.
        ValueError: an array is named `__metadata__`.
    """
    path = Path(path)
    prng = {name: jax.random.key_impl(array) for name, array in arrays.items() if is_key(array)}
    stored = {name: _little_endian(name, array) for name, array in arrays.items()}
    # The widest dtypes first, so that every array starts at a multiple of its item's size.
    stored = dict(sorted(stored.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header = _header(stored, {"format": "easyflax-1", "prng": prng})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for array in stored.values():
                file.write(_bytes_of(array))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the arrays of a file that `save_weights` wrote.

    Returns:
        Name to NumPy array, bfloat16 and float8 included; typed PRNG keys come back as JAX arrays.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, changed, or was not written by `save_weights`.
    """
    # Asked before it is opened: opening a pipe would wait for its other end.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise CheckpointError(
            f"{os.fspath(path)} is no regular file, expected one that save_weights wrote. Check the path."
        )
    with open(path, "rb") as file:
        try:
            return _read(file)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise CheckpointError(
                f"{os.fspath(path)}: {error}; expected a file as save_weights wrote it. Use another copy: "
                "this one is damaged, or was made by another program."
            ) from error


def _header(stored: Mapping[str, np.ndarray], facts: dict[str, Any]) -> bytes:
    header: dict[str, Any] = {}
    begin = 0
    for name, array in stored.items():
        end = begin + array.nbytes
        dtype = _NAME_OF_DTYPE[array.dtype]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    facts = facts | {"sums": {name: sha256(_bytes_of(array)) for name, array in stored.items()}}
    # The values in this part of the header must be strings.
    header[_METADATA] = {"easyflax": canonical(facts).decode()}
    header[_METADATA]["sha256"] = sha256(canonical(header))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def _read(file: io.BufferedReader) -> dict[str, Any]:
    header, facts, data_size = _read_header(file, os.fstat(file.fileno()).st_size)
    entries = _entries(header, data_size)
    sums, prng = facts["sums"], facts["prng"]
    if not isinstance(sums, dict) or not isinstance(prng, dict):
        raise ValueError("the header's sums are no JSON object")
    if sums.keys() != header.keys() or not prng.keys() <= header.keys():
        raise ValueError("the header's sums are of other arrays")
    arrays = {}
    for entry in entries:
        array = np.empty(entry.shape, entry.dtype)
        content = _bytes_of(array)
        if file.readinto(content) != content.nbytes or sha256(content) != sums[entry.name]:
            raise ValueError(f"the content of {entry.name!r} has another SHA-256 sum than its header states")
        impl = prng.get(entry.name)
        arrays[entry.name] = (
            array if impl is None else jax.random.wrap_key_data(jnp.asarray(array), impl=impl)
        )
    return arrays


def _read_header(file: io.BufferedReader, size: int) -> tuple[dict[str, Any], dict[str, Any], int]:
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or not 2 <= length <= min(size - 8, _LARGEST_HEADER):
        raise ValueError(f"the header would take {length} of {size} bytes")
    header = parse(file.read(length))
    metadata = header.get(_METADATA)
    if not isinstance(metadata, dict) or metadata.keys() != {"easyflax", "sha256"}:
        raise ValueError("the header holds no SHA-256 sums")
    if metadata.pop("sha256") != sha256(canonical(header)):
        raise ValueError("the header has another SHA-256 sum than it states")
    facts = parse(header.pop(_METADATA)["easyflax"].encode())
    if facts.get("format") != "easyflax-1":
        raise ValueError(f"the format is {facts.get('format')!r}")
    return header, facts, size - 8 - length


def _entries(header: Mapping[str, Any], data_size: int) -> list[_Entry]:
    """Returns the arrays in the order of the file, after checking their sizes against it."""
    entries = sorted((_entry(name, fields) for name, fields in header.items()), key=lambda entry: entry[3:])
    position = 0
    for entry in entries:
        size = math.prod(entry.shape) * entry.dtype.itemsize
        if entry.begin != position or entry.end != position + size:
            raise ValueError(f"{entry.name!r} of {size} bytes is said to lie at {entry.begin} to {entry.end}")
        position = entry.end
    if position != data_size:
        raise ValueError(f"the arrays take {position} bytes and the file has {data_size} for them")
    return entries


def _entry(name: str, fields: Any) -> _Entry:
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} is not described by dtype, shape and data_offsets")
    shape, offsets = fields["shape"], fields["data_offsets"]
    numbers = [*shape, *offsets]
    if any(type(number) is not int or not 0 <= number < 2**48 for number in numbers) or len(offsets) != 2:
        raise ValueError(f"{name!r} has shape {shape!r} and offsets {offsets!r}")
    if len(shape) > _MOST_AXES or fields["dtype"] not in _DTYPES:
        raise ValueError(f"{name!r} has {len(shape)} axes and dtype {fields['dtype']!r}")
    return _Entry(name, _DTYPES[fields["dtype"]], tuple(shape), *offsets)


def _little_endian(name: str, array: Any) -> np.ndarray:
    if name == _METADATA:
        raise ValueError(
            f"An array is named {name!r}, expected another name: the format keeps this one. Rename it."
        )
    array = np.asarray(jax.random.key_data(array) if is_key(array) else array, order="C")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NAME_OF_DTYPE:
        raise TypeError(
            f"{name!r} has dtype {array.dtype}, expected one of {', '.join(map(str, _NAME_OF_DTYPE))}. Cast "
            "it first."
        )
    return array.astype(dtype, copy=False)


def _bytes_of(array: np.ndarray) -> memoryview:
    flat: Any = array.reshape(-1).view(np.uint8)  # bfloat16 has no buffer of its own
    return memoryview(flat)
