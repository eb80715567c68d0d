"""Layers in Keras's manner: NNX modules that make their weights when the shape of their input is known."""

from easyflax.layers.activations import ELU as ELU
from easyflax.layers.activations import Activation as Activation
from easyflax.layers.activations import LeakyReLU as LeakyReLU
from easyflax.layers.activations import PReLU as PReLU
from easyflax.layers.activations import ReLU as ReLU
from easyflax.layers.activations import Softmax as Softmax
from easyflax.layers.core import ActivityRegularization as ActivityRegularization
from easyflax.layers.core import Identity as Identity
from easyflax.layers.core import Lambda as Lambda
from easyflax.layers.core import Masking as Masking
from easyflax.layers.dense import Dense as Dense
from easyflax.layers.einsum_dense import EinsumDense as EinsumDense
from easyflax.layers.embedding import Embedding as Embedding
from easyflax.layers.input_layer import InputLayer as InputLayer
from easyflax.layers.layer import Layer as Layer
from easyflax.layers.symbolic import Input as Input

__all__ = [
    "ELU",
    "Activation",
    "ActivityRegularization",
    "Dense",
    "EinsumDense",
    "Embedding",
    "Identity",
    "Input",
    "InputLayer",
    "Lambda",
    "Layer",
    "LeakyReLU",
    "Masking",
    "PReLU",
    "ReLU",
    "Softmax",
]
