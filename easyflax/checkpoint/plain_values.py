"""What a run keeps beside the model, in JSON with arrays beside it: places in data, callbacks, records.

    {"wait": 2, "best": inf, "w": array}   becomes
    {"wait": 2, "best": {"$": "float", "of": "inf"}, "w": {"$": "array", "of": "0"}}  and  {"0": array}

Only plain values come back: None, booleans, numbers, text, bytes, lists, tuples, dicts and arrays. No other
class is ever named in a file.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

__all__ = ["decode", "encode"]

_TAG = "$"


def encode(value: Any) -> tuple[Any, dict[str, Any]]:
    """Returns `value` as JSON can hold it, and the arrays in it by number.

    Raises:
        TypeError: something in it is none of the plain kinds; the message says where.
    """
    arrays: dict[str, Any] = {}
    return _encode(value, arrays, ""), arrays


def decode(value: Any, arrays: Mapping[str, Any]) -> Any:
    """Returns the value that `encode` was given.

    Raises:
        ValueError: it is nothing that `encode` made.
    """
    if isinstance(value, list):
        return [decode(entry, arrays) for entry in value]
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {name: decode(entry, arrays) for name, entry in value.items()}
    if value[_TAG] == "array":
        return arrays[value["of"]]
    if value[_TAG] not in _DECODERS:
        raise ValueError(f"JSON holds a value of the kind {value[_TAG]!r}")
    return _DECODERS[value[_TAG]](decode(value["of"], arrays))


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "float": float,
    "tuple": tuple,
    "bytes": base64.b64decode,
    "dict": dict,
}


def _encode(value: Any, arrays: dict[str, Any], where: str) -> Any:
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else _tagged("float", repr(value))
    if isinstance(value, bytes):
        return _tagged("bytes", base64.b64encode(value).decode())
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        name = str(len(arrays))
        arrays[name] = value
        return _tagged("array", name)
    if isinstance(value, Mapping):
        return _encode_dict(value, arrays, where)
    if type(value) in (list, tuple):
        entries = [_encode(entry, arrays, f"{where}[{number}]") for number, entry in enumerate(value)]
        return entries if isinstance(value, list) else _tagged("tuple", entries)
    raise TypeError(
        f"The state{where} is a {type(value).__name__}, expected numbers, text, lists, dicts or arrays. "
        "Make it of these, for example with jax.tree.leaves."
    )


def _encode_dict(value: Mapping[Any, Any], arrays: dict[str, Any], where: str) -> Any:
    entries = [(name, _encode(entry, arrays, f"{where}[{name!r}]")) for name, entry in value.items()]
    if all(isinstance(name, str) and name != _TAG for name in value):
        return dict(entries)
    return _tagged("dict", [[_encode(name, arrays, f"{where}[{name!r}]"), entry] for name, entry in entries])


def _tagged(kind: str, of: Any) -> dict[str, Any]:
    return {_TAG: kind, "of": of}
