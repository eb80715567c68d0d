"""Nested mappings as flat ones, and back."""

from __future__ import annotations

from easyflax.nnx.core.traversals import empty_node, flatten_mapping, flatten_to_sequence, unflatten_mapping

__all__ = ["empty_node", "flatten_mapping", "flatten_to_sequence", "unflatten_mapping"]
