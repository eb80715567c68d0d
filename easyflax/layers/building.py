"""Finds the layers in a model that have no weights yet, and has them made."""

from __future__ import annotations

from typing import Any

import easyflax.nnx as nnx
from easyflax.layers import abstract
from easyflax.layers.layer import Layer

__all__ = ["build_on", "has_unbuilt", "unbuilt"]


def unbuilt(node: Any) -> list[tuple[tuple[Any, ...], Layer]]:
    """Returns `(path, layer)` for each layer in `node`, itself included, that has no weights yet."""
    return [
        (path, module)
        for path, module in nnx.iter_graph(node)
        if isinstance(module, Layer) and not module.built
    ]


def has_unbuilt(node: Any) -> bool:
    """Says whether there is a layer without weights in `node`."""
    return bool(unbuilt(node))


def build_on(module: Any, inputs: Any) -> None:
    """Builds all layers in `module`, as a call on `inputs` would do it; nothing is computed.

    Args:
        module: a module that is called with one argument.
        inputs: arrays, or `ArraySpec`s with None for free axes.

    Raises:
        ValueError: the shapes do not fit.
    """
    if not has_unbuilt(module):
        return
    specs = abstract.specs_of(inputs)
    if isinstance(module, Layer) and not module.built:
        module.build_for((specs,), {})
    if has_unbuilt(module):
        abstract.output_specs(module, (specs,), {})
