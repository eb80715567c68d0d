"""A whole epoch in one `lax.scan`, with the data on the device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from contenders.jax_step import State, begin_epoch, end_epoch, make_step, order_of, start
from contenders.problems import Problem

NAME = "epoch in one scan"


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    step = make_step(problem)
    state = start(problem)
    rng = np.random.default_rng(0)
    x, y = jax.device_put((problem.x, problem.y))

    @functools.partial(jax.jit, donate_argnums=0)
    def all_steps(state: State, x: Any, y: Any, order: Any) -> State:
        return jax.lax.scan(lambda state, rows: (step(state, x[rows], y[rows]), None), state, order)[0]

    def epoch() -> float:
        nonlocal state
        order = order_of(len(problem.x), rng, shuffle).astype(np.int32)
        order = order.reshape(problem.steps, problem.batch_size)
        state = all_steps(begin_epoch(state), x, y, order)
        return end_epoch(state, problem)

    return epoch
