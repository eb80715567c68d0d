"""Sequences of different lengths."""

from __future__ import annotations

from easyflax.utils.sequences import pad_sequences as pad_sequences

__all__ = ["pad_sequences"]
