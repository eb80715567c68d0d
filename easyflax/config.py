"""The settings of `keras.config`: the dtype policy of layers; all others are fixed here.

from easyflax import config
config.set_dtype_policy("mixed_bfloat16")    # for all layers made from now on
config.image_data_format()                   # "channels_last"
"""

from __future__ import annotations

from typing import Any

from easyflax.layers.dtypes import dtype_policy as dtype_policy
from easyflax.layers.dtypes import set_dtype_policy as set_dtype_policy

__all__ = [
    "backend",
    "disable_traceback_filtering",
    "dtype_policy",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_traceback_filtering_enabled",
    "set_backend",
    "set_dtype_policy",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
]

_EPSILON = 1e-7


def backend() -> str:
    """Returns `"jax"`."""
    return "jax"


def epsilon() -> float:
    """Returns what sums are kept from being zero by, in constraints and losses."""
    return _EPSILON


def floatx() -> str:
    """Returns `"float32"`, the dtype of losses and metrics, and of layers until `set_dtype_policy`."""
    return "float32"


def image_data_format() -> str:
    """Returns where the channels of images are, where a layer is given no `data_format`."""
    return "channels_last"


def set_backend(backend: str) -> None:
    """Takes `"jax"`.

    Raises:
        ValueError: it is another one.
    """
    _check_fixed("backend", backend, "jax", "There is no other one here")


def disable_traceback_filtering() -> None:
    """Changes nothing: no line is ever left out of a traceback."""


def is_traceback_filtering_enabled() -> bool:
    """Returns False: no line is ever left out of a traceback."""
    return False


def set_epsilon(value: float) -> None:
    """Takes the value that holds anyway.

    Raises:
        ValueError: it is another one.
    """
    _check_fixed("epsilon", value, _EPSILON, "Pass epsilon= to the layers")


def set_floatx(value: str) -> None:
    """Takes the dtype that holds anyway.

    Raises:
        ValueError: it is another one.
    """
    _check_fixed("floatx", value, floatx(), "Call set_dtype_policy, or pass dtype= to the layers")


def set_image_data_format(data_format: str) -> None:
    """Takes the format that holds anyway.

    Raises:
        ValueError: it is another one.
    """
    _check_fixed("image_data_format", data_format, image_data_format(), "Pass data_format= to the layers")


def _check_fixed(setting: str, value: Any, fixed: Any, advice: str) -> None:
    if value != fixed:
        raise ValueError(
            f"{setting} was to be set to {value!r}, expected {fixed!r}: it is the same for all programs. "
            f"{advice}."
        )
