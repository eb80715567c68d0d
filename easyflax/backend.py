"""What `keras.backend` still offers in Keras 3: settings, dtypes, and `clear_session`."""

from __future__ import annotations

import gc
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from easyflax.config import backend as backend
from easyflax.config import epsilon as epsilon
from easyflax.config import floatx as floatx
from easyflax.config import image_data_format as image_data_format
from easyflax.config import set_epsilon as set_epsilon
from easyflax.config import set_floatx as set_floatx
from easyflax.config import set_image_data_format as set_image_data_format
from easyflax.dispatch import find_symbolic

__all__ = [
    "backend",
    "clear_session",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_float_dtype",
    "is_int_dtype",
    "is_keras_tensor",
    "result_type",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_dtype",
]


def clear_session(free_memory: bool = True) -> None:
    """Frees the memory of models that are not used any more.

    No layer or model is kept in a global place, and names are counted within each model, so that there is
    nothing else to clear; the global seed stays, see `easyflax.utils.set_random_seed`.

    Args:
        free_memory: look for objects that hold each other, as Python does from time to time.
    """
    if free_memory:
        gc.collect()


def is_keras_tensor(x: Any) -> bool:
    """Returns whether `x` is a symbolic value, such as `ef.Input(...)`.

    Examples:
        >>> from easyflax import layers
        >>> is_keras_tensor(layers.Input((3,))), is_keras_tensor(3)
        (True, False)
    """
    return find_symbolic((x,)) is x and x is not None


def standardize_dtype(dtype: DTypeLike | None) -> str:
    """Returns the name of a dtype; that of `floatx` for None.

    Examples:
        >>> import jax.numpy as jnp
        >>> standardize_dtype(jnp.bfloat16), standardize_dtype(None)
        ('bfloat16', 'float32')
    """
    return floatx() if dtype is None else jnp.dtype(dtype).name


def is_float_dtype(dtype: DTypeLike) -> bool:
    """Returns whether a dtype is floating."""
    return jnp.issubdtype(jnp.dtype(dtype), jnp.floating)


def is_int_dtype(dtype: DTypeLike) -> bool:
    """Returns whether a dtype is an integer one, signed or not."""
    return jnp.issubdtype(jnp.dtype(dtype), jnp.integer)


def result_type(*dtypes: DTypeLike) -> str:
    """Returns the name of the dtype that arrays of these dtypes are combined in."""
    return jnp.result_type(*dtypes).name if dtypes else floatx()
