"""Layers in Keras's manner: NNX modules that make their weights when the shape of their input is known."""

from easyflax.layers.input_layer import InputLayer
from easyflax.layers.layer import Layer
from easyflax.layers.symbolic import Input

__all__ = ["Input", "InputLayer", "Layer"]
