"""The loop that people write by hand, without shuffling: batches are slices."""

from __future__ import annotations

from collections.abc import Callable

import jax
from contenders.jax_step import begin_epoch, end_epoch, make_step, start
from contenders.problems import Problem

NAME = "hand-written loop, not shuffled"


def trainer(problem: Problem, *, shuffle: bool = False) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    step = jax.jit(make_step(problem), donate_argnums=0)
    state = start(problem)

    def epoch() -> float:
        nonlocal state
        state = begin_epoch(state)
        for first in range(0, len(problem.x), problem.batch_size):
            rows = slice(first, first + problem.batch_size)
            state = step(state, problem.x[rows], problem.y[rows])
        return end_epoch(state, problem)

    return epoch
