"""A neural-network module system on JAX (`easyflax.nnx`), and a Keras-like API on top of it."""

from easyflax import datasets as datasets
from easyflax import errors as errors
from easyflax import losses as losses
from easyflax import metrics as metrics
from easyflax import nnx as nnx
from easyflax import optimizers as optimizers

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "datasets",
    "errors",
    "losses",
    "metrics",
    "nnx",
    "optimizers",
]
