"""`fit` of Keras on JAX, data parallel on all devices."""

from __future__ import annotations

from collections.abc import Callable

from contenders import keras_fit
from contenders.problems import Problem

NAME = "keras fit, DataParallel"


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    keras_fit.keras.distribution.set_distribution(keras_fit.keras.distribution.DataParallel())
    return keras_fit.trainer(problem, shuffle=shuffle)
