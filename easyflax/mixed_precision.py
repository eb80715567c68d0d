"""Dtype policies and loss scaling under the names of `keras.mixed_precision`.

from easyflax import mixed_precision
mixed_precision.set_global_policy("mixed_bfloat16")    # for all layers made from now on
"""

from __future__ import annotations

from easyflax.layers.dtypes import DTypePolicy as DTypePolicy
from easyflax.layers.dtypes import dtype_policy as dtype_policy
from easyflax.layers.dtypes import set_dtype_policy as set_dtype_policy
from easyflax.optimizers import LossScaleOptimizer as LossScaleOptimizer

__all__ = [
    "DTypePolicy",
    "LossScaleOptimizer",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]

Policy = DTypePolicy
global_policy = dtype_policy
set_global_policy = set_dtype_policy
