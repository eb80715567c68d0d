"""The layers that a model shows: `model.layers`."""

from __future__ import annotations

from typing import Any

import easyflax.nnx as nnx
from easyflax.layers.weight_order import children
from easyflax.models.chain import Chain
from easyflax.models.graph import Graph
from easyflax.models.naming import named

__all__ = ["Children", "named_layers"]


class Children:
    """The attribute `layers` of models: a new list at each reading; an attribute of that name goes before."""

    def __get__(self, model: Any, owner: Any) -> Any:
        return self if model is None else list(named_layers(model).values())


def named_layers(model: Any) -> dict[str, Any]:
    """Returns the layers of a model by name, in order.

    Of a model between symbolic values, and of a Sequential, they are those that it was stated with; of others
    the modules that are attributes, or lie in lists and dicts that are.
    """
    module = model.trained_module
    if isinstance(module, Graph):
        return module.ordered_layers
    if isinstance(module, Chain):
        return named(module.layers)
    found: dict[int, Any] = {}
    _collect(module, found)
    return named(found.values())


def _collect(value: Any, found: dict[int, Any]) -> None:
    for _, child in children(value):
        if isinstance(child, nnx.List | nnx.Dict | list | tuple | dict):
            _collect(child, found)
        elif isinstance(child, nnx.Module):
            found.setdefault(id(child), child)
