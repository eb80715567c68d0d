"""`fit` of Keras on JAX with `steps_per_execution=32`."""

from __future__ import annotations

from collections.abc import Callable

from contenders import keras_fit
from contenders.problems import Problem

NAME = "keras fit, steps_per_execution=32"


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    return keras_fit.trainer(problem, shuffle=shuffle, steps_per_execution=min(32, problem.steps))
