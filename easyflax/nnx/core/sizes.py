"""How much variables hold: numbers of elements and bytes, by kind."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from easyflax.nnx.core.rngs import RngState
from easyflax.nnx.core.variables import Variable

_UNITS = ("B", "KB", "MB", "GB", "TB")


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """A number of array elements and the bytes that they take; written as `1,024 (4.1 KB)`.

    >>> str(Size(10, 40) + Size(2, 4))
    '12 (44 B)'
    """

    elements: int = 0
    num_bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.elements + other.elements, self.num_bytes + other.num_bytes)

    def __bool__(self) -> bool:
        return self.elements > 0

    def __str__(self) -> str:
        return f"{self.elements:,} ({format_bytes(self.num_bytes)})"


def has_shape(value: Any) -> bool:
    """Says whether `value` is an array or stands for one (a tracer, a `jax.ShapeDtypeStruct`)."""
    return isinstance(value, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))


def size_of(value: Any) -> Size:
    """Returns the size of the arrays in `value`, abstract ones included; what has no shape counts nothing."""
    total = Size()
    for leaf in jax.tree.leaves(value):
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            elements = math.prod(leaf.shape)
            total += Size(elements, elements * getattr(leaf.dtype, "itemsize", 0))
    return total


def counted_kind(variable: Variable[Any]) -> type[Variable[Any]]:
    """Returns the kind that a variable is counted under: its class, or `RngState` for both the keys and the
    counters of random streams."""
    return RngState if isinstance(variable, RngState) else type(variable)


def format_bytes(num_bytes: int) -> str:
    """Writes a number of bytes in a decimal unit, such as `1.5 MB`."""
    power = 0
    while num_bytes >= 1000 ** (power + 1) and power < len(_UNITS) - 1:
        power += 1
    return f"{num_bytes / 1000**power:,.1f} {_UNITS[power]}" if power else f"{num_bytes} B"
