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
    from easyflax import preprocessing as preprocessing
    from easyflax import random as random
    from easyflax import regularizers as regularizers
    from easyflax import saving as saving
    from easyflax import tree as tree
    from easyflax import utils as utils
    from easyflax.compilation_cache import enable_compilation_cache as enable_compilation_cache
    from easyflax.dtype_policies import FloatDTypePolicy as FloatDTypePolicy
    from easyflax.initializers import Initializer as Initializer
    from easyflax.layers import Input as Input
    from easyflax.layers import InputSpec as InputSpec
    from easyflax.layers import Layer as Layer
    from easyflax.layers.dtypes import DTypePolicy as DTypePolicy
    from easyflax.layers.operation import Operation as Operation
    from easyflax.layers.remat import RematScope as RematScope
    from easyflax.layers.remat import remat as remat
    from easyflax.layers.symbolic import KerasTensor as KerasTensor
    from easyflax.layers.symbolic import apply as apply
    from easyflax.layers.variable import Variable as Variable
    from easyflax.losses import Loss as Loss
    from easyflax.metrics import Metric as Metric
    from easyflax.models import Model as Model
    from easyflax.models import Sequential as Sequential
    from easyflax.models.function import Function as Function
    from easyflax.optimizers import Optimizer as Optimizer
    from easyflax.regularizers import Regularizer as Regularizer

__version__ = "0.1.0"

__all__ = [
    "DTypePolicy",
    "FloatDTypePolicy",
    "Function",
    "Initializer",
    "Input",
    "InputSpec",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Operation",
    "Optimizer",
    "Regularizer",
    "RematScope",
    "Sequential",
    "Variable",
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
    "enable_compilation_cache",
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
    "preprocessing",
    "random",
    "regularizers",
    "remat",
    "saving",
    "tree",
    "utils",
    "version",
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
        "preprocessing",
        "random",
        "regularizers",
        "saving",
        "tree",
        "utils",
    ),
    names={
        "DTypePolicy": "layers.dtypes",
        "FloatDTypePolicy": "dtype_policies",
        "Function": "models.function",
        "Initializer": "initializers",
        "Input": "layers",
        "InputSpec": "layers",
        "KerasTensor": "layers.symbolic",
        "Layer": "layers",
        "Loss": "losses",
        "Metric": "metrics",
        "Model": "models",
        "Operation": "layers.operation",
        "Optimizer": "optimizers",
        "Regularizer": "regularizers",
        "RematScope": "layers.remat",
        "Sequential": "models",
        "Variable": "layers.variable",
        "apply": "layers.symbolic",
        "enable_compilation_cache": "compilation_cache",
        "remat": "layers.remat",
    },
)


def version() -> str:
    """Returns `__version__`."""
    return __version__
