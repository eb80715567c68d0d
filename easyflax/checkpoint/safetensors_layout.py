"""The safetensors layout: named arrays in one file, behind a header in JSON.

    8 bytes   length of the header, little-endian
    header    JSON: {name: {"dtype", "shape", "data_offsets"}, ..., "__metadata__": {str: str}}, padded with
              spaces
    data      the arrays one after the other, little-endian, without gaps

The parts that reading and writing are made of stand here; `weights_file.py` adds sums to them, and
`easyflax.interop` reads and writes the files of other programs. Nothing in a file is imported, executed or
followed.

Source: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from easyflax.checkpoint.strict_json import parse

__all__ = [
    "METADATA",
    "Entry",
    "bytes_of",
    "describe",
    "encode",
    "is_regular_file",
    "list_entries",
    "little_endian",
    "read_header",
    "write_whole",
]

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
METADATA = "__metadata__"
_LARGEST_HEADER = 100_000_000  # what the safetensors library accepts
_MOST_AXES = 32


class Entry(NamedTuple):
    """One array as the header describes it."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def write_whole(path: str | os.PathLike[str], write: Callable[[io.BufferedWriter], None]) -> None:
    """Writes a file, all of it or none: an older file stays until this one is whole.

    Args:
        path: the file; its folder is made where it is missing.
        write: is called with the open file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_regular_file(path: str | os.PathLike[str]) -> bool:
    """Whether it may be opened; opening a pipe would wait for its other end.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return stat.S_ISREG(os.stat(path).st_mode)


def describe(stored: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the header of arrays that follow each other, without metadata."""
    header: dict[str, Any] = {}
    begin = 0
    for name, array in stored.items():
        end = begin + array.nbytes
        dtype = _NAME_OF_DTYPE[array.dtype]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    return header


def encode(header: Mapping[str, Any]) -> bytes:
    """Returns the header as it stands in the file, its length in front."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_header(file: io.BufferedReader, size: int) -> tuple[dict[str, Any], int]:
    """Returns the header of a file of `size` bytes, and where the arrays begin.

    Raises:
        ValueError: it is longer than the file, or no JSON object.
    """
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or not 2 <= length <= min(size - 8, _LARGEST_HEADER):
        raise ValueError(f"the header would take {length} of {size} bytes")
    return parse(file.read(length)), 8 + length


def list_entries(header: Mapping[str, Any], data_size: int) -> list[Entry]:
    """Returns the arrays in the order of the file, after checking their sizes against it.

    Raises:
        ValueError, TypeError: an array is described wrongly, lies elsewhere, or has an unknown dtype.
    """
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


def _entry(name: str, fields: Any) -> Entry:
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} is not described by dtype, shape and data_offsets")
    shape, offsets = fields["shape"], fields["data_offsets"]
    numbers = [*shape, *offsets]
    if any(type(number) is not int or not 0 <= number < 2**48 for number in numbers) or len(offsets) != 2:
        raise ValueError(f"{name!r} has shape {shape!r} and offsets {offsets!r}")
    if len(shape) > _MOST_AXES or fields["dtype"] not in _DTYPES:
        raise ValueError(f"{name!r} has {len(shape)} axes and dtype {fields['dtype']!r}")
    return Entry(name, _DTYPES[fields["dtype"]], tuple(shape), *offsets)


def little_endian(name: str, array: Any) -> np.ndarray:
    """Returns `array` as the file holds it.

    Raises:
        TypeError: its dtype has no place in the format.
        ValueError: it is named `__metadata__`.
    """
    if name == METADATA:
        raise ValueError(
            f"An array is named {name!r}, expected another name: the format keeps this one. Rename it."
        )
    array = np.asarray(array, order="C")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NAME_OF_DTYPE:
        raise TypeError(
            f"{name!r} has dtype {array.dtype}, expected one of {', '.join(map(str, _NAME_OF_DTYPE))}. Cast "
            "it first."
        )
    return array.astype(dtype, copy=False)


def bytes_of(array: np.ndarray) -> memoryview:
    """Returns the bytes of a contiguous array, without copying them."""
    flat: Any = array.reshape(-1).view(np.uint8)  # bfloat16 has no buffer of its own
    return memoryview(flat)
