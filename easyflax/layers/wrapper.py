"""The base class of layers around another layer."""

from __future__ import annotations

from typing import Any

import easyflax.nnx as nnx
from easyflax.layers.layer import Layer
from easyflax.serialization import deserialize

__all__ = ["Wrapper"]


class Wrapper(Layer):
    """Holds another layer; subclasses define `call`.

    Args:
        layer: a layer, a model or an NNX module.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError: `layer` is none.
    """

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(layer, nnx.Module):
            raise TypeError(
                f"{type(self).__name__}: got layer={layer!r}, expected a layer or another module. Pass for "
                "example Dense(8); a plain function goes into Lambda."
            )
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        """Builds the layer inside for the same inputs."""
        if isinstance(self.layer, Layer) and not self.layer.built:
            self.layer.build(input_shape)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a new wrapper around a new layer, not built."""
        return cls(**deserialize(config))
