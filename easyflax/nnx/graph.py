"""The older name of `easyflax.nnx.graphlib`."""

from __future__ import annotations

from easyflax.nnx.graphlib import *  # noqa: F403
from easyflax.nnx.graphlib import __all__ as __all__
