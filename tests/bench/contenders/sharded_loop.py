"""The hand-written loop on all devices: batches split by `NamedSharding`, at most four steps in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from contenders.jax_step import begin_epoch, end_epoch, make_step, order_of, start
from contenders.problems import Problem
from jax.sharding import NamedSharding, PartitionSpec

NAME = "sharded loop"
IN_FLIGHT = 4  # with more, simulated devices wait for each other until the process is aborted


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    everywhere, by_rows = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    train_step = make_step(problem)

    def step_and_sign(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        state = train_step(state, x, y)
        return state, state.loss + 0  # that nobody donates, to wait for

    step = jax.jit(step_and_sign, donate_argnums=0, out_shardings=everywhere)
    state = jax.device_put(start(problem), everywhere)
    rng = np.random.default_rng(0)

    def epoch() -> float:
        nonlocal state
        order = order_of(len(problem.x), rng, shuffle)
        state = jax.device_put(begin_epoch(state), everywhere)
        signs: deque[Any] = deque()
        for first in range(0, len(order), problem.batch_size):
            rows = order[first : first + problem.batch_size]
            state, sign = step(state, *jax.device_put((problem.x[rows], problem.y[rows]), by_rows))
            signs.append(sign)
            if len(signs) > IN_FLIGHT:
                jax.block_until_ready(signs.popleft())
        return end_epoch(state, problem)

    return epoch
