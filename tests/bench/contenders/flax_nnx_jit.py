"""A loop over a step that is compiled by `nnx.jit` of Flax."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from contenders.flax_step import make_objects, run_epoch, train_step
from contenders.jax_step import order_of
from contenders.problems import Problem

NAME = "flax nnx.jit"


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    model, optimizer, metrics = make_objects(problem)
    step = functools.partial(train_step, model, optimizer, metrics)
    rng = np.random.default_rng(0)
    return lambda: run_epoch(step, metrics, problem, order_of(len(problem.x), rng, shuffle))
