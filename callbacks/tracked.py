"""What trackers of experiments are told: the numbers of the logs, and what characterises a fit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

__all__ = ["described", "scalars_of"]


def scalars_of(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Returns the numbers among the logs, as floats.

    Examples:
        >>> scalars_of({"loss": np.float32(0.5), "confusion": np.eye(2), "phase": "warm"})
        {'loss': 0.5}
    """
    arrays = {name: np.asarray(value) for name, value in (logs or {}).items()}
    return {
        name: float(array)
        for name, array in arrays.items()
        if array.shape == () and array.dtype.kind in "biuf"
    }


def described(model: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what characterises a fit: its epochs and steps, the optimizer and the size of the model."""
    found = {name: params[name] for name in ("epochs", "steps") if params.get(name) is not None}
    found["optimizer"] = type(model.optimizer).__name__
    with suppress(TypeError, ValueError):  # not every optax transformation keeps one in its state
        found["learning_rate"] = float(model.optimizer.learning_rate)
    return {**found, "num_params": model.count_params()}
