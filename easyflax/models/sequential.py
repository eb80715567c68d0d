"""A model that calls its layers one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import easyflax.nnx as nnx
from easyflax.models.model import Model


class Sequential(Model):
    """A `Model` over `nnx.Sequential`.

    Args:
        layers: NNX modules and plain functions, in the order in which they are called.

    Raises:
        TypeError: an entry cannot be called.

    Examples:
        >>> rngs = nnx.Rngs(0)
        >>> model = Sequential([nnx.Linear(4, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 2, rngs=rngs)])
        >>> len(model.layers)
        3
    """

    def __init__(self, layers: Sequence[Callable[..., Any]] = ()):
        layers = list(layers)
        for number, layer in enumerate(layers):
            if isinstance(layer, type) or not callable(layer):
                raise TypeError(
                    f"Sequential: layers[{number}] is {layer!r}, expected a module or a function. Pass an "
                    f"instance, such as nnx.Linear(4, 8, rngs=nnx.Rngs(0)) or nnx.relu."
                )
        super().__init__(nnx.Sequential(*layers))

    @property
    def layers(self) -> list[Callable[..., Any]]:
        """The layers, in order."""
        return list(self.module.layers)
