"""What is known of an array before there is one: its shape, with None for free axes, and its dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

__all__ = ["ArraySpec"]


@dataclass(frozen=True)
class ArraySpec:
    """Stands for an array; unlike `jax.ShapeDtypeStruct`, axes may be free.

    Attributes:
        shape: sizes, and None for axes of any size.
        dtype: of the array.
        mask: what stands for its mask, or None.
    """

    shape: tuple[int | None, ...]
    dtype: Any
    mask: ArraySpec | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", jax.ShapeDtypeStruct((), self.dtype).dtype)  # as jax spells it

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)
