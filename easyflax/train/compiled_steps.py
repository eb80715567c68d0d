"""The steps of a model, jitted: each is compiled for every batch shape it meets, and stays so."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.data import Batch
from easyflax.distribution import DataParallel
from easyflax.layers.dtypes import DTypePolicy
from easyflax.layers.precision import running_in
from easyflax.train.binding import Arrays
from easyflax.train.own_steps import OwnSteps, log_packing
from easyflax.train.packing import Packed, Packing
from easyflax.train.specs import specs
from easyflax.train.state import TrainState, start_counters
from easyflax.train.step import Objective, eval_step, train_step

__all__ = ["CompiledSteps", "in_precision"]


class CompiledSteps:
    """What `fit` and `evaluate` run for one structure of model and data.

    Args:
        objective: what is computed.
        layout: the devices.
        own: the steps of a model with methods of its own, else None.
        eager: computes step by step in Python, without compiling, so that one can print and debug.
        uses_optimizer: whether the state of the optimizer of `compile` is needed.
        steps_per_execution: steps of one dispatch, where so many batches of one shape come together.
        precision: what layers compute in that were given no dtype; None leaves each to its own.

    Attributes:
        train: `(state, batch) -> (state, packed logs)`.
        train_many: `(state, batches) -> (state, packed logs)`, for several batches of one shape.
        evaluate: `(params, other, metrics, batch) -> (changed, metrics, packed logs)`.
        fresh_metrics: `() -> ` empty accumulators.
        start_counters: see there.
    """

    def __init__(
        self,
        objective: Objective,
        layout: DataParallel,
        own: OwnSteps | None = None,
        *,
        eager: bool = False,
        uses_optimizer: bool = True,
        steps_per_execution: int = 1,
        precision: DTypePolicy | None = None,
    ):
        self.objective = objective
        self.own = own
        self.eager = eager
        self.uses_optimizer = uses_optimizer
        self.steps_per_execution = steps_per_execution
        self._packings: dict[str, Packing] = {}
        train: Callable[..., Any] = partial(train_step, objective)
        evaluate: Callable[..., Any] = partial(eval_step, objective)
        if own is not None:
            train, evaluate = self._packed("train", own.train), self._packed("evaluate", own.evaluate)
            self._reset = _made(own.reset, layout, eager=eager)
        train, evaluate = in_precision(precision, train), in_precision(precision, evaluate)
        self.train = _made(train, layout, eager=eager, donate_argnums=(0,))
        self.train_many = _made(partial(_one_after_another, train), layout, eager=eager, donate_argnums=(0,))
        self.evaluate = _made(evaluate, layout, eager=eager, donate_argnums=(2,))
        self.fresh_metrics = layout.jit(objective.scores.fresh)
        self.start_counters = layout.jit(start_counters)

    def are_one_dispatch(self, batches: Sequence[Batch]) -> bool:
        """Says whether `train_many` takes these batches; else `train` takes one after the other."""
        if self.eager or not 1 < len(batches) == self.steps_per_execution:
            return False
        first, *others = (jax.tree.map(jnp.shape, batch) for batch in batches)
        return all(shapes == first for shapes in others)

    def log_packing(self, step: str) -> Packing:
        """Returns how the logs of `"train"` or `"evaluate"` are packed, once that step has run."""
        return self._packings.get(step, self.objective.scores.log_packing)

    def reset(self, params: Arrays, other: Arrays) -> tuple[Arrays, Packed]:
        """Returns the variables that change between two epochs, and empty accumulators."""
        return ({}, self.fresh_metrics()) if self.own is None else self._reset(params, other)

    def _packed(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a step whose last result, a dict of logs, is packed; how is noted when it is traced."""

        def packed(*args: Any) -> Any:
            *rest, logs = step(*args)
            self._packings[name] = log_packing(specs(logs))
            return *rest, self._packings[name].pack(logs)

        return packed


def _one_after_another(
    train: Callable[..., Any], state: TrainState, batches: Sequence[Batch]
) -> tuple[TrainState, Packed]:
    """Does several steps in one dispatch; returns the state, and the logs of the last one."""
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *batches)
    state, logs = jax.lax.scan(train, state, stacked)
    return state, jax.tree.map(lambda array: array[-1], logs)


def in_precision(precision: DTypePolicy | None, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that runs in a precision, None for any."""

    @functools.wraps(function)
    def running(*args: Any) -> Any:
        with running_in(precision):
            return function(*args)

    return function if precision is None else running


def _made(
    function: Callable[..., Any],
    layout: DataParallel,
    *,
    eager: bool,
    donate_argnums: tuple[int, ...] = (),
) -> Callable[..., Any]:
    return function if eager else layout.jit(function, donate_argnums=donate_argnums)
