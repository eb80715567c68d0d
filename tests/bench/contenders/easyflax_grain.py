"""`fit` of easyflax on a `MapDataset` of grain over the same arrays."""

from __future__ import annotations

from collections.abc import Callable

from contenders.easyflax_fit import compiled
from contenders.grain_rows import dataset
from contenders.problems import Problem
from contenders.screen import on_terminal

NAME = "easyflax fit, grain"


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    model, batches = compiled(problem), dataset(problem)

    def epoch() -> float:
        with on_terminal():
            return model.fit(batches, verbose=1).history["loss"][-1]

    return epoch
