"""A neural-network module system on JAX (`easyflax.nnx`), and a Keras-like API on top of it."""

from easyflax import datasets as datasets
from easyflax import errors as errors

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "datasets",
    "errors",
]
