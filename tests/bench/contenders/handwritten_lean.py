"""The hand-written loop with weights drawn by NumPy: it starts faster, as `jax.random` is not compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from contenders import handwritten
from contenders.problems import Problem

NAME = "hand-written loop, weights by NumPy"


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    rng = np.random.default_rng(0)
    weights = [_drawn(rng, array.shape) for array in problem.weights]
    epoch = handwritten.trainer(replace(problem, weights=weights, copies_weights=True), shuffle=shuffle)
    weights.clear()  # they are on the device
    return epoch


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    draws = rng.standard_normal(shape, np.float32)
    draws *= np.float32(np.sqrt(2 / sum(shape)))
    return draws
