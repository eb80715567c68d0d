"""A neural-network module system on JAX (`easyflax.nnx`), and a Keras-like API on top of it."""

import typing as _typing

from easyflax import errors as errors
from easyflax import nnx as nnx
from easyflax.lazy import lazily as _lazily

if _typing.TYPE_CHECKING:
    from easyflax import callbacks as callbacks
    from easyflax import datasets as datasets
    from easyflax import distribution as distribution
    from easyflax import interop as interop
    from easyflax import losses as losses
    from easyflax import metrics as metrics
    from easyflax import optimizers as optimizers
    from easyflax.models import Model as Model
    from easyflax.models import Sequential as Sequential

__version__ = "0.1.0"

__all__ = [
    "Model",
    "Sequential",
    "__version__",
    "callbacks",
    "datasets",
    "distribution",
    "errors",
    "interop",
    "losses",
    "metrics",
    "nnx",
    "optimizers",
]

__getattr__, __dir__ = _lazily(
    __name__,
    modules=("callbacks", "datasets", "distribution", "interop", "losses", "metrics", "optimizers"),
    names={"Model": "models", "Sequential": "models"},
)
