"""A hand-written loop over a `MapDataset` of grain that is read element by element, as grain does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grain
import jax
from contenders.jax_step import begin_epoch, end_epoch, make_step, start
from contenders.problems import Problem

NAME = "grain, element by element"


def dataset(problem: Problem) -> Any:
    """Returns inputs and classes as a shuffled dataset of batches."""
    columns = [grain.MapDataset.source(array) for array in (problem.x, problem.y)]
    return grain.experimental.ZipMapDataset(columns).shuffle(seed=0).batch(problem.batch_size)


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    step = jax.jit(make_step(problem), donate_argnums=0)
    state, batches = start(problem), dataset(problem)

    def epoch() -> float:
        nonlocal state
        state = begin_epoch(state)
        for number in range(len(batches)):
            state = step(state, *batches[number])
        return end_epoch(state, problem)

    return epoch
