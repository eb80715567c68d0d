"""Hand-written loops over jitted steps: training, evaluation with sums on the device, prediction."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
from contenders.calls import Calls
from contenders.jax_step import begin_epoch, logits_of, make_step, start
from contenders.problems import Problem

NAME = "hand-written loop"


def calls(problem: Problem, *, bar: bool) -> Calls:
    """Returns the calls; there is no bar to be drawn."""
    state = start(problem)
    model = logits_of(problem)
    train_step = jax.jit(make_step(problem), donate_argnums=0)
    predict_step = jax.jit(model)

    @functools.partial(jax.jit, donate_argnums=1)
    def test_step(weights: Any, sums: Any, x: Any, y: Any) -> Any:
        logits = model(weights, x)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).sum()
        return sums[0] + loss, sums[1] + (logits.argmax(-1) == y).sum()

    def fit(x: Any, y: Any) -> Any:
        nonlocal state
        state = begin_epoch(state)
        for batch in _batches(x, y):
            state = train_step(state, *batch)
        return jax.device_get((state.loss, state.correct))

    def evaluate(x: Any, y: Any) -> Any:
        sums: Any = np.zeros((), np.float32), np.zeros((), np.int32)
        for batch in _batches(x, y):
            sums = test_step(state.weights, sums, *batch)
        return [float(total) / len(x) for total in jax.device_get(sums)]

    def predict(x: Any) -> Any:
        return np.concatenate(jax.device_get([predict_step(state.weights, rows) for (rows,) in _batches(x)]))

    return Calls(fit, fit, evaluate, predict)


def _batches(*arrays: Any) -> Iterator[tuple[Any, ...]]:
    for first in range(0, len(arrays[0]), 32):
        yield tuple(array[first : first + 32] for array in arrays)
