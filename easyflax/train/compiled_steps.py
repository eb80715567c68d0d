"""The steps of a model, jitted: each is compiled for every batch shape it meets, and stays so."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax

from easyflax.data import Batch
from easyflax.distribution import DataParallel
from easyflax.layers.dtypes import DTypePolicy
from easyflax.layers.precision import running_in
from easyflax.train.accumulation import PENDING, no_gradients
from easyflax.train.additions import StepShape, start_additions
from easyflax.train.binding import Arrays
from easyflax.train.compiling import telling
from easyflax.train.dispatch import Dispatch, Form
from easyflax.train.fusing import steps_together
from easyflax.train.inference import InferenceSteps
from easyflax.train.own_steps import OwnSteps, log_packing
from easyflax.train.packing import Packed, Packing
from easyflax.train.specs import kind, specs
from easyflax.train.state import TrainState
from easyflax.train.step import Objective, accumulate_step, apply_step, eval_step, train_step

__all__ = ["CompiledSteps", "TrainingSteps", "in_precision"]


class CompiledSteps:
    """What `fit` and `evaluate` run for one structure of model and data.

    Args:
        objective: what is computed.
        layout: the devices.
        own: the steps of a model with methods of its own, else None.
        eager: computes step by step in Python, without compiling, so that one can print and debug.
        uses_optimizer: whether the state of the optimizer of `compile` is needed.
        steps_per_execution: steps of one dispatch; None lets the step decide.
        precision: what layers compute in that were given no dtype; None leaves each to its own.

    Attributes:
        evaluate: `(params, other, metrics, batch) -> (changed, metrics, packed logs)`, once or several times.
        fresh_metrics: `() -> ` empty accumulators.
    """

    def __init__(
        self,
        objective: Objective,
        layout: DataParallel,
        own: OwnSteps | None = None,
        *,
        eager: bool = False,
        uses_optimizer: bool = True,
        steps_per_execution: int | None = None,
        precision: DTypePolicy | None = None,
    ):
        self.objective = objective
        self.own = own
        self.eager = eager
        self.uses_optimizer = uses_optimizer
        self.steps_per_execution = steps_per_execution
        self._packings: dict[str, Packing] = {}
        self._layout = layout
        self._precision = precision
        self._training: dict[StepShape, TrainingSteps] = {}
        evaluate: Callable[..., Any] = partial(eval_step, objective)
        if own is not None:
            evaluate = self._packed("evaluate", own.evaluate)
            self._reset = own.reset if eager else layout.jit(own.reset)
        self.evaluate = InferenceSteps(
            "evaluation step", in_precision(precision, evaluate), layout, keeps_all=False, eager=eager
        )
        self.fresh_metrics = layout.jit(objective.scores.fresh)

    def training(self, shape: StepShape) -> TrainingSteps:
        """Returns the training steps for what callbacks made of them: the same ones for the same shape.

        Raises:
            ValueError: gradients are to be accumulated, and the model's own `train_step` uses them itself.
        """
        if shape not in self._training:
            self._training[shape] = self._new_training(shape)
        return self._training[shape]

    def _new_training(self, shape: StepShape) -> TrainingSteps:
        objective = replace(self.objective, shape=shape)
        own = None if self.own is None else replace(self.own, objective=objective)
        if shape.accumulates and own is not None and "train_step" in own.overridden:
            raise ValueError(
                "fit: gradients are to be accumulated, and the model has a train_step of its own, which "
                "updates by itself; expected the train_step that fit has anyway. Leave accumulation out, or "
                "give the optimizer gradient_accumulation_steps."
            )
        step: Callable[..., Any] = partial(accumulate_step if shape.accumulates else train_step, objective)
        if own is not None:
            step = self._packed("train", own.accumulate if shape.accumulates else own.train)
        step = in_precision(self._precision, step)
        return TrainingSteps(
            self._layout,
            step=step if self.eager else jax.jit(telling("train step", self._layout.computing(step))),
            apply=partial(apply_step, objective) if shape.accumulates else None,
            start=self._layout.jit(partial(_start, shape)),
            eager=self.eager,
        )

    def in_its_precision(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that computes in the precision of the steps."""
        return in_precision(self._precision, function)

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


@dataclass(frozen=True)
class TrainingSteps:
    """The training steps of one shape.

    Attributes:
        layout: the devices.
        step: `(state, batch) -> (state, packed logs)`.
        apply: `state -> state`, applies the gradients that wait; None where each step does.
        start: `params -> states of the additions`, and of the gradients that wait.
        eager: whether nothing is compiled.
    """

    layout: DataParallel
    step: Callable[..., Any]
    apply: Callable[[TrainState], TrainState] | None
    start: Callable[[Arrays], dict[str, Any]]
    eager: bool
    _dispatches: dict[Any, Dispatch] = field(default_factory=dict)
    _together: dict[Any, int] = field(default_factory=dict)

    def dispatch(self, state: TrainState) -> Dispatch:
        """Returns what runs the steps on states like this one: the same for the same structure."""
        return _known(self._dispatches, kind(state), self._new_dispatch, state)

    def steps_together(self, state: TrainState, batch: Batch) -> int:
        """Returns how many steps on batches like this one should be one dispatch."""
        if self.eager:
            return 1
        return _known(self._together, kind(batch), self._decided, state, batch)

    def _new_dispatch(self, state: TrainState) -> Dispatch:
        form = Form(state, largest=-1) if self.eager else Form(state)
        return Dispatch(form, self.step, self.apply, self.layout, eager=self.eager)

    def _decided(self, state: TrainState, batch: Batch) -> int:
        layout = self.layout  # places belong to what was traced, and a step is traced only once
        given = layout.specs_of_state(specs(state)), layout.specs_of_batch(specs(batch))
        traced = self.step.trace(*given)  # type: ignore[attr-defined]
        return steps_together(traced.jaxpr, batch, self.layout.platform)


def _known(known: dict[Any, Any], key: Any, make: Callable[..., Any], *args: Any) -> Any:
    if key not in known:
        known[key] = make(*args)
    return known[key]


def _start(shape: StepShape, params: Arrays) -> dict[str, Any]:
    pending = {PENDING: no_gradients(params)} if shape.accumulates else {}
    return {**start_additions(shape.additions, params), **pending}


def in_precision(precision: DTypePolicy | None, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that runs in a precision, None for any."""

    @functools.wraps(function)
    def running(*args: Any) -> Any:
        with running_in(precision):
            return function(*args)

    return function if precision is None else running
