"""Layers as plain JSON and back."""

from __future__ import annotations

from typing import Any

from easyflax.layers.layer import Layer
from easyflax.serialization import deserialize as _deserialize
from easyflax.serialization import deserializing, serialize

__all__ = ["deserialize", "serialize"]


def _checked(config: Any) -> Layer:
    layer = _deserialize(config)
    if not isinstance(layer, Layer):
        raise ValueError(
            f"layers.deserialize: the configuration describes a {type(layer).__name__}, expected a layer. "
            "Pass what layers.serialize(layer) returns."
        )
    return layer


deserialize = deserializing(_checked)
