"""Promotion of dtypes, under the name of the module that has it in Flax."""

from __future__ import annotations

from easyflax.nnx.layers.dtypes import canonicalize_dtype, promote_dtype

__all__ = ["canonicalize_dtype", "promote_dtype"]
