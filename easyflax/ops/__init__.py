"""Functions of arrays under the names that they have in `keras.ops`, for layers and for symbolic values.

    from easyflax import ops
    ops.mean(ops.square(x), axis=-1)

They are thin: what jax has under the same name is called with Keras's names of the arguments. On symbolic
values (`ef.Input(...)`) each is a step of the model.
"""

from __future__ import annotations

import typing as _typing

from easyflax.ops import core as core
from easyflax.ops import image as image
from easyflax.ops import linalg as linalg
from easyflax.ops import math as math
from easyflax.ops import nn as nn
from easyflax.ops import numpy as numpy

_HOMES = {name: home for home in (numpy, math, linalg, nn, core) for name in home.NAMES}
globals().update({name: getattr(home, name) for name, home in _HOMES.items()})

if _typing.TYPE_CHECKING:

    def __getattr__(name: str) -> _typing.Any: ...  # the functions that are added above


__all__ = ["core", "image", "linalg", "math", "nn", "numpy", *sorted(_HOMES)]  # pyright: ignore[reportUnsupportedDunderAll]
