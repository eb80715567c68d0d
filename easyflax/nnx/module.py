"""Modules and what looks through them, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.core.capture import (
    capture,
)
from easyflax.nnx.core.iteration import (
    iter_children,
    iter_module_children,
    iter_modules,
)
from easyflax.nnx.core.module import (
    M,
    Module,
    first_from,
)
from easyflax.nnx.core.views import (
    view,
    view_info,
    with_attributes,
)

__all__ = [
    "M",
    "Module",
    "capture",
    "first_from",
    "iter_children",
    "iter_module_children",
    "iter_modules",
    "view",
    "view_info",
    "with_attributes",
]
