"""The loop that people write by hand: a donated `jax.jit` step a batch, accuracy added up on the device."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from contenders.jax_step import begin_epoch, end_epoch, make_step, order_of, start
from contenders.problems import Problem

NAME = "hand-written loop"


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    step = jax.jit(make_step(problem), donate_argnums=0)
    state = start(problem)
    rng = np.random.default_rng(0)

    def epoch() -> float:
        nonlocal state
        order = order_of(len(problem.x), rng, shuffle)
        state = begin_epoch(state)
        for first in range(0, len(order), problem.batch_size):
            rows = order[first : first + problem.batch_size]
            state = step(state, problem.x[rows], problem.y[rows])
        return end_epoch(state, problem)

    return epoch
