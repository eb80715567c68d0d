"""Initializers, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.layers.initializers import *  # noqa: F403
from easyflax.nnx.layers.initializers import __all__ as __all__
