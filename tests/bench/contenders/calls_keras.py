"""`fit`, `evaluate` and `predict` of Keras on JAX."""

from __future__ import annotations

from contenders.calls import Calls, calls_of_model
from contenders.keras_fit import compiled
from contenders.problems import Problem

NAME = "keras"


def calls(problem: Problem, *, bar: bool) -> Calls:
    """Returns the calls of a compiled model."""
    return calls_of_model(compiled(problem), bar=bar)
