"""A hand-written loop that does 32 steps in one `lax.scan` a call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from contenders.jax_step import State, begin_epoch, end_epoch, make_step, order_of, start
from contenders.problems import Problem

NAME = "32 steps in one scan"
STEPS = 32


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    step = make_step(problem)
    state = start(problem)
    rng = np.random.default_rng(0)

    @functools.partial(jax.jit, donate_argnums=0)
    def chunk(state: State, xs: Any, ys: Any) -> State:
        return jax.lax.scan(lambda state, batch: (step(state, *batch), None), state, (xs, ys))[0]

    def epoch() -> float:
        nonlocal state
        order = order_of(len(problem.x), rng, shuffle).reshape(problem.steps, problem.batch_size)
        state = begin_epoch(state)
        for first in range(0, problem.steps, STEPS):
            rows = order[first : first + STEPS]
            state = chunk(state, problem.x[rows], problem.y[rows])
        return end_epoch(state, problem)

    return epoch
