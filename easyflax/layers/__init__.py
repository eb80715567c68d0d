"""Layers in Keras's manner: NNX modules that make their weights when the shape of their input is known."""

from easyflax.layers.activations import ELU as ELU
from easyflax.layers.activations import Activation as Activation
from easyflax.layers.activations import LeakyReLU as LeakyReLU
from easyflax.layers.activations import PReLU as PReLU
from easyflax.layers.activations import ReLU as ReLU
from easyflax.layers.activations import Softmax as Softmax
from easyflax.layers.batch_normalization import BatchNormalization as BatchNormalization
from easyflax.layers.core import ActivityRegularization as ActivityRegularization
from easyflax.layers.core import Identity as Identity
from easyflax.layers.core import Lambda as Lambda
from easyflax.layers.core import Masking as Masking
from easyflax.layers.dense import Dense as Dense
from easyflax.layers.dropout import Dropout as Dropout
from easyflax.layers.dropout import SpatialDropout1D as SpatialDropout1D
from easyflax.layers.dropout import SpatialDropout2D as SpatialDropout2D
from easyflax.layers.dropout import SpatialDropout3D as SpatialDropout3D
from easyflax.layers.einsum_dense import EinsumDense as EinsumDense
from easyflax.layers.embedding import Embedding as Embedding
from easyflax.layers.group_normalization import GroupNormalization as GroupNormalization
from easyflax.layers.input_layer import InputLayer as InputLayer
from easyflax.layers.layer import Layer as Layer
from easyflax.layers.merging import Add as Add
from easyflax.layers.merging import Average as Average
from easyflax.layers.merging import Concatenate as Concatenate
from easyflax.layers.merging import Dot as Dot
from easyflax.layers.merging import Maximum as Maximum
from easyflax.layers.merging import Minimum as Minimum
from easyflax.layers.merging import Multiply as Multiply
from easyflax.layers.merging import Subtract as Subtract
from easyflax.layers.merging import add as add
from easyflax.layers.merging import average as average
from easyflax.layers.merging import concatenate as concatenate
from easyflax.layers.merging import dot as dot
from easyflax.layers.merging import maximum as maximum
from easyflax.layers.merging import minimum as minimum
from easyflax.layers.merging import multiply as multiply
from easyflax.layers.merging import subtract as subtract
from easyflax.layers.noise import AlphaDropout as AlphaDropout
from easyflax.layers.noise import GaussianDropout as GaussianDropout
from easyflax.layers.noise import GaussianNoise as GaussianNoise
from easyflax.layers.normalization import LayerNormalization as LayerNormalization
from easyflax.layers.normalization import RMSNormalization as RMSNormalization
from easyflax.layers.normalization import UnitNormalization as UnitNormalization
from easyflax.layers.reshaping import Flatten as Flatten
from easyflax.layers.reshaping import Permute as Permute
from easyflax.layers.reshaping import RepeatVector as RepeatVector
from easyflax.layers.reshaping import Reshape as Reshape
from easyflax.layers.spectral_normalization import SpectralNormalization as SpectralNormalization
from easyflax.layers.symbolic import Input as Input

__all__ = [
    "ELU",
    "Activation",
    "ActivityRegularization",
    "Add",
    "AlphaDropout",
    "Average",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dot",
    "Dropout",
    "EinsumDense",
    "Embedding",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "GroupNormalization",
    "Identity",
    "Input",
    "InputLayer",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "Maximum",
    "Minimum",
    "Multiply",
    "PReLU",
    "Permute",
    "RMSNormalization",
    "ReLU",
    "RepeatVector",
    "Reshape",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "SpectralNormalization",
    "Subtract",
    "UnitNormalization",
    "add",
    "average",
    "concatenate",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]
