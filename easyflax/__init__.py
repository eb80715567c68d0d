"""A neural-network module system on JAX (`easyflax.nnx`), and a Keras-like API on top of it."""

import typing as _typing

from easyflax import errors as errors
from easyflax import nnx as nnx
from easyflax.lazy import lazily as _lazily

if _typing.TYPE_CHECKING:
    from easyflax import activations as activations
    from easyflax import backend as backend
    from easyflax import callbacks as callbacks
    from easyflax import config as config
    from easyflax import constraints as constraints
    from easyflax import data as data
    from easyflax import datasets as datasets
    from easyflax import distribution as distribution
    from easyflax import dtype_policies as dtype_policies
    from easyflax import initializers as initializers
    from easyflax import interop as interop
    from easyflax import layers as layers
    from easyflax import losses as losses
    from easyflax import metrics as metrics
    from easyflax import mixed_precision as mixed_precision
    from easyflax import models as models
    from easyflax import ops as ops
    from easyflax import optimizers as optimizers
    from easyflax import random as random
    from easyflax import regularizers as regularizers
    from easyflax import saving as saving
    from easyflax import utils as utils
    from easyflax.layers import Input as Input
    from easyflax.layers import Layer as Layer
    from easyflax.layers.dtypes import DTypePolicy as DTypePolicy
    from easyflax.layers.symbolic import apply as apply
    from easyflax.models import Model as Model
    from easyflax.models import Sequential as Sequential

__version__ = "0.1.0"

__all__ = [
    "DTypePolicy",
    "Input",
    "Layer",
    "Model",
    "Sequential",
    "__version__",
    "activations",
    "apply",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "data",
    "datasets",
    "distribution",
    "dtype_policies",
    "errors",
    "initializers",
    "interop",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "nnx",
    "ops",
    "optimizers",
    "random",
    "regularizers",
    "saving",
    "utils",
]

__getattr__, __dir__ = _lazily(
    __name__,
    modules=(
        "activations",
        "backend",
        "callbacks",
        "config",
        "constraints",
        "data",
        "datasets",
        "distribution",
        "dtype_policies",
        "initializers",
        "interop",
        "layers",
        "losses",
        "metrics",
        "mixed_precision",
        "models",
        "ops",
        "optimizers",
        "random",
        "regularizers",
        "saving",
        "utils",
    ),
    names={
        "DTypePolicy": "layers.dtypes",
        "Input": "layers",
        "Layer": "layers",
        "Model": "models",
        "Sequential": "models",
        "apply": "layers.symbolic",
    },
)
