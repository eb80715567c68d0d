"""Weights in one file: the safetensors layout, with SHA-256 sums in its header.

The safetensors library reads these files. In the other direction, only files with our sums are read: a
changed file is refused, never loaded with other values. `easyflax.interop` reads the files of other programs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
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
from easyflax.checkpoint.strict_json import canonical, parse, sha256
from easyflax.checkpoint.tree import is_key
from easyflax.errors import CheckpointError

__all__ = ["load_weights", "save_weights"]

_HDF5 = b"\x89HDF\r\n\x1a\n"  # its first bytes


def save_weights(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Writes arrays to one file, all of it or none: an older file stays until this one is whole.

    Args:
        path: the file; its folder is made where it is missing.
        arrays: name to array (NumPy, JAX, or typed PRNG keys).

    Raises:
        TypeError: an array's dtype has no place in the format.
        ValueError: an array is named `__metadata__`.
    """
    prng = {name: jax.random.key_impl(array) for name, array in arrays.items() if is_key(array)}
    stored = {
        name: little_endian(name, jax.random.key_data(array) if name in prng else array)
        for name, array in arrays.items()
    }
    # The widest dtypes first, so that every array starts at a multiple of its item's size.
    stored = dict(sorted(stored.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header = _header(stored, {"format": "easyflax-1", "prng": prng})

    def write(file: io.BufferedWriter) -> None:
        file.write(header)
        for array in stored.values():
            file.write(bytes_of(array))

    write_whole(path, write)


def load_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the arrays of a file that `save_weights` wrote.

    Returns:
        Name to NumPy array, bfloat16 and float8 included; typed PRNG keys come back as JAX arrays.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, changed, or was not written by `save_weights`.
    """
    if not is_regular_file(path):
        raise CheckpointError(
            f"{os.fspath(path)} is no regular file, expected one that save_weights wrote. Check the path."
        )
    with open(path, "rb") as file:
        if file.read(len(_HDF5)) == _HDF5:
            raise CheckpointError(
                f"{os.fspath(path)} is an HDF5 file, as Keras writes it, expected one of save_weights. "
                "Load it in Keras, and hand the arrays over: model.set_weights(keras_model.get_weights())."
            )
        file.seek(0)
        try:
            return _read(file)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise CheckpointError(
                f"{os.fspath(path)}: {error}; expected a file as save_weights wrote it. Use another copy if "
                "this one is damaged, or easyflax.interop.load_weights if another program made it."
            ) from error


def _header(stored: Mapping[str, np.ndarray], facts: dict[str, Any]) -> bytes:
    header = describe(stored)
    facts = facts | {"sums": {name: sha256(bytes_of(array)) for name, array in stored.items()}}
    # The values in this part of the header must be strings.
    header[METADATA] = {"easyflax": canonical(facts).decode()}
    header[METADATA]["sha256"] = sha256(canonical(header))
    return encode(header)


def _read(file: io.BufferedReader) -> dict[str, Any]:
    header, facts, data_size = _read_header(file, os.fstat(file.fileno()).st_size)
    entries = list_entries(header, data_size)
    sums, prng = facts["sums"], facts["prng"]
    if not isinstance(sums, dict) or not isinstance(prng, dict):
        raise ValueError("the header's sums are no JSON object")
    if sums.keys() != header.keys() or not prng.keys() <= header.keys():
        raise ValueError("the header's sums are of other arrays")
    arrays = {}
    for entry in entries:
        array = np.empty(entry.shape, entry.dtype)
        content = bytes_of(array)
        if file.readinto(content) != content.nbytes or sha256(content) != sums[entry.name]:
            raise ValueError(f"the content of {entry.name!r} has another SHA-256 sum than its header states")
        impl = prng.get(entry.name)
        arrays[entry.name] = (
            array if impl is None else jax.random.wrap_key_data(jnp.asarray(array), impl=impl)
        )
    return arrays


def _read_header(file: io.BufferedReader, size: int) -> tuple[dict[str, Any], dict[str, Any], int]:
    header, begin = read_header(file, size)
    metadata = header.get(METADATA)
    if not isinstance(metadata, dict) or metadata.keys() != {"easyflax", "sha256"}:
        raise ValueError("the header holds no SHA-256 sums")
    if metadata.pop("sha256") != sha256(canonical(header)):
        raise ValueError("the header has another SHA-256 sum than it states")
    facts = parse(header.pop(METADATA)["easyflax"].encode())
    if facts.get("format") != "easyflax-1":
        raise ValueError(f"the format is {facts.get('format')!r}")
    return header, facts, size - begin
