"""A model that calls its layers one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from easyflax.models.chain import Chain
from easyflax.models.model import Model

__all__ = ["Sequential"]


class Sequential(Model):
    """A `Model` that calls its layers one after the other.

    Args:
        layers: layers of `ef.layers`, NNX modules, other models and plain functions, mixed. The first may be
            `ef.Input(shape)`: then each layer is built and checked when it is added, else the first data or
            `build(input_shape)` tell the shapes.
        name: unique in a model that this one is part of.
        trainable: False freezes all weights.

    Raises:
        TypeError: an entry cannot be called.
        ValueError: two layers have one name, or the shapes do not fit.

    Examples:
        >>> from easyflax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> model = Sequential([nnx.Linear(4, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 2, rngs=rngs)])
        >>> len(model.layers)
        3
    """

    module: Chain

    def __init__(
        self, layers: Iterable[Any] | None = None, name: str | None = None, *, trainable: bool = True
    ) -> None:
        if callable(layers) or callable(name):
            raise TypeError(
                "Sequential: got layers that are not in a list, expected one list of them. Write "
                "ef.Sequential([first, second])."
            )
        super().__init__(Chain(name or "sequential"), name=name)
        self._auto_name = "sequential"
        for layer in layers or ():
            self.add(layer)
        if not trainable:
            self.trainable = False

    def add(self, layer: Any) -> None:
        """Appends a layer.

        Raises:
            TypeError: it cannot be called.
            ValueError: its name is taken, or its shapes do not fit the layer before.
        """
        self.module.add(layer)

    def pop(self) -> Any:
        """Takes the last layer out and returns it.

        Raises:
            TypeError: there is none.
        """
        return self.module.pop()
