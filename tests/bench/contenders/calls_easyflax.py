"""`fit`, `evaluate` and `predict` of easyflax."""

from __future__ import annotations

from contenders.calls import Calls, calls_of_model
from contenders.easyflax_fit import compiled
from contenders.problems import Problem

NAME = "easyflax"


def calls(problem: Problem, *, bar: bool) -> Calls:
    """Returns the calls of a compiled model."""
    return calls_of_model(compiled(problem), bar=bar)
