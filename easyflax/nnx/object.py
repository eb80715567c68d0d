"""The older name of `easyflax.nnx.pytreelib`."""

from __future__ import annotations

from easyflax.nnx.pytreelib import *  # noqa: F403
from easyflax.nnx.pytreelib import __all__ as __all__
