"""Takes modules of flax.nnx where modules of ours are expected."""

from __future__ import annotations

from typing import Any

__all__ = ["adapt_if_flax"]


def adapt_if_flax(value: Any) -> Any:
    """Returns `value`."""
    return value
