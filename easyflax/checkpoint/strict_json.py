"""JSON that can be hashed, and a parser that trusts nothing."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

__all__ = ["canonical", "parse", "sha256"]


def canonical(value: Any) -> bytes:
    """Returns the one spelling of `value` that its sum is taken of.

    Raises:
        TypeError, ValueError: `value` holds something that JSON has no place for.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    ).encode()


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Returns the SHA-256 sum in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def parse(data: bytes) -> dict[str, Any]:
    """Returns the JSON object in `data`.

    Raises:
        ValueError: it is no JSON object, or one with a key twice, a NaN, or nested beyond sense.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"JSON holds a {type(value).__name__}, expected an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("JSON has a key twice")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON holds {name}")
