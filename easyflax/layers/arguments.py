"""Checks of arguments that several families of layers share."""

from __future__ import annotations

from typing import Any

import numpy as np

from easyflax.layers.layer import Layer
from easyflax.nnx.layers import checks

__all__ = ["check_data_format", "check_rank", "check_share"]


def check_data_format(layer: Layer, data_format: str | None) -> str:
    """Returns where the channels are: "channels_last" by default.

    Raises:
        ValueError: `data_format` is another name than "channels_last" and "channels_first".
    """
    known = ("channels_last", "channels_first")
    if data_format is not None and data_format not in known:
        raise ValueError(
            f"{type(layer).__name__}: got data_format={data_format!r}, expected one of {list(known)}. Leave "
            "it out for channels_last."
        )
    return data_format or known[0]


def check_share(layer: Layer, *, below_one: bool = False, **argument: float) -> float:
    """Returns the value of an argument that goes from 0 to 1.

    Raises:
        ValueError: it is something else.
    """
    ((name, value),) = argument.items()
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1 or (below_one and value == 1):
        limit = "from 0 to below 1" if below_one else "from 0 to 1"
        raise ValueError(
            f"{type(layer).__name__}: got {name}={value!r}, expected a number {limit}. Pass for example "
            f"{name}=0.5."
        )
    return value


def check_rank(layer: Layer, inputs: Any, rank: int) -> None:
    """Checks the number of axes of an input.

    Raises:
        ValueError: it has more or fewer.
    """
    if np.ndim(inputs) != rank:
        raise ValueError(
            f"{checks.describe(layer)}: got an input of shape {np.shape(inputs)}, expected {rank} axes, the "
            "first one for the batch. Reshape the input."
        )
