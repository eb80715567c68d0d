"""The settings of `keras.config`, which are fixed here: layers are told by their own arguments.

from easyflax import config
config.image_data_format()    # "channels_last"
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "backend",
    "epsilon",
    "floatx",
    "image_data_format",
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
    """Returns the dtype of weights and of computation where a layer is given none."""
    return "float32"


def image_data_format() -> str:
    """Returns where the channels of images are, where a layer is given no `data_format`."""
    return "channels_last"


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
    _check_fixed("floatx", value, floatx(), "Pass dtype= to the layers")


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
