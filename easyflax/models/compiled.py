"""What `compile` makes: loss, metrics and optimizer, and the steps built from them once data is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from easyflax.data import Batch, Source
from easyflax.distribution import DataParallel
from easyflax.layers.dtypes import DTypePolicy
from easyflax.layers.precision import running_in
from easyflax.layers.remat import RematScope
from easyflax.models.arguments import check_count, check_seed, check_steps_per_execution
from easyflax.models.by_structure import ByStructure
from easyflax.optimizers import Optimizer
from easyflax.train.binding import Binding
from easyflax.train.compiled_loss import LossSpec
from easyflax.train.compiled_metrics import MetricsSpec
from easyflax.train.compiled_steps import CompiledSteps
from easyflax.train.engine import Engine
from easyflax.train.objective import Named, build_objective, objective_without_outputs
from easyflax.train.own_steps import OwnSteps
from easyflax.train.step import Objective
from easyflax.train.trial import build_what_waits, try_step


@dataclass(frozen=True)
class Trained:
    """The model as the steps see it.

    Attributes:
        binding: its variables.
        output_names: what it calls its outputs, None if nothing.
        overridden: the methods of its own that make steps, see `own_steps.OVERRIDABLE`.
        can_be_called: whether it says what a call does.
        model: itself; only what is to be built in it is changed.
    """

    binding: Binding
    output_names: Sequence[str] | None
    overridden: frozenset[str]
    can_be_called: bool
    model: Any


class Compiled:
    """A model's training configuration, with everything that was compiled for it.

    Args:
        optimizer: what `optimizers.get` takes.
        loss: names, losses and functions in any nesting, or None.
        loss_weights: numbers, nested likewise.
        metrics: names, metrics and functions in any nesting, or None.
        weighted_metrics: likewise.
        eager: whether nothing is compiled.
        steps_per_execution: steps of one dispatch, or "auto".
        gradient_accumulation_steps: how many batches make one update.
        raises_nonfinite: whether a loss that is NaN or infinite ends a fit with an error.
        seed: fixes the order of the data, and the random streams of a module that takes `rngs=`.
        distribution: the devices and what lies where.
        remat: which calls compute values again for the gradient.
        options: by name, what `optimizer` was asked to do besides its own; None is nothing.

    Raises:
        ValueError: a name is unknown.

    Attributes:
        optimizer: of the model.
        steps_per_execution: None where the steps decide.
        precision: what layers compute in that were given no dtype; None leaves each to its own.
        remat: which calls compute values again for the gradient, None for those that layers say.
        loss: as given.
        accumulation: how many batches make an update, by the first epoch that holds for; see `Plan`.
        engine: runs the steps and keeps the optimizer state.
        steps: those that ran last, None before data is seen.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        loss: Any = None,
        *,
        precision: DTypePolicy | None = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        eager: bool = False,
        steps_per_execution: int | str = "auto",
        gradient_accumulation_steps: int = 1,
        raises_nonfinite: bool = True,
        seed: int = 0,
        distribution: DataParallel | None = None,
        remat: RematScope | None = None,
        options: Mapping[str, float | None] | None = None,
    ):
        self.optimizer = optimizer
        self.precision = precision
        self.remat = remat
        self.loss = loss
        self.seed = check_seed(seed)
        self.eager = eager
        self.steps_per_execution = check_steps_per_execution(steps_per_execution, "compile")
        batches = check_count("gradient_accumulation_steps", gradient_accumulation_steps, 1, "compile")
        self.raises_nonfinite = bool(raises_nonfinite)
        self.accumulation = {0: batches} if batches > 1 else {}
        self.engine = Engine(self.optimizer, distribution or DataParallel())
        self.named = Named(
            LossSpec.of(loss, loss_weights),
            MetricsSpec.of(metrics, "metrics"),
            MetricsSpec.of(weighted_metrics, "weighted_metrics"),
            self.optimizer.transformation,
            self.seed,
        )
        self.steps: CompiledSteps | None = None
        self._asked = {name: value for name, value in (options or {}).items() if value is not None}
        self._known = ByStructure[CompiledSteps]()

    def run_otherwise(
        self, *, eager: bool | None = None, steps_per_execution: int | str | None = None
    ) -> None:
        """Changes how steps are run from the next `fit` on.

        Raises:
            ValueError: `steps_per_execution` is neither "auto" nor an integer of at least 1.
        """
        if eager is not None:
            self.eager = bool(eager)
        if steps_per_execution is not None:
            self.steps_per_execution = check_steps_per_execution(steps_per_execution, "model")
        self._known = ByStructure[CompiledSteps]()

    def steps_for(self, trained: Trained, batch: Batch) -> CompiledSteps:
        """Returns the steps for data like `batch`: the same ones while neither model nor data change."""
        make = partial(self._new_steps, trained, batch)
        self.steps = self._known.get((_signature(batch), trained.binding.graphdef), make)
        return self.steps

    def build_lazily(self, trained: Trained, batch: Batch) -> bool:
        """Builds what the model's own steps build when they first run; says whether there was anything."""
        if "train_step" not in trained.overridden or not build_what_waits(trained.model):
            return False
        with running_in(self.precision):
            trial = try_step(self._own_steps(trained, batch), trained.model, batch, eager=self.eager)
        trial.build()
        return not trial.is_done

    def _new_steps(self, trained: Trained, batch: Batch) -> CompiledSteps:
        if self.remat is not None:
            self.remat.check_applies(trained.model.trained_module)
        with running_in(self.precision):
            if not trained.overridden:
                objective = build_objective(trained.binding, batch, self.named, trained.output_names)
                return self._compiled_steps(objective)
            own, uses_optimizer = self._own_steps(trained, batch), True
            if "train_step" in trained.overridden:
                # What is run eagerly may print and read values: it is not tried out before.
                uses_optimizer = (
                    bool(trained.binding.params)
                    if self.eager
                    else try_step(own, trained.model, batch).uses_optimizer
                )
            if not uses_optimizer:
                self._check_nothing_asked(type(trained.model).__name__)
        return self._compiled_steps(own.objective, own, uses_optimizer=uses_optimizer)

    def _check_nothing_asked(self, name: str) -> None:
        """Raises if the optimizer, which no step uses, was to clip gradients or to average weights."""
        for option, value in self._asked.items():
            instead = "Adam(use_ema=True)" if option == "ema" else f"Adam({option}={value})"
            raise ValueError(
                f"compile: got {option}={value}, expected {name}.train_step to use the optimizer that it is "
                "for, self.optimizer. Use it there, or ask it of the optimizer that the step uses, as in "
                f"{instead}."
            )

    def _compiled_steps(
        self, objective: Objective, own: OwnSteps | None = None, **options: Any
    ) -> CompiledSteps:
        return CompiledSteps(
            objective,
            self.engine.layout,
            own,
            eager=self.eager,
            steps_per_execution=self.steps_per_execution,
            precision=self.precision,
            **options,
        )

    def _own_steps(self, trained: Trained, batch: Batch) -> OwnSteps:
        with running_in(self.precision):
            objective = self._own_objective(trained, batch)
        return OwnSteps(objective, self.named, trained.binding, self.optimizer, trained.overridden)

    def own_prediction(self, trained: Trained) -> OwnSteps:
        """Returns the steps of a model with a `predict_step` of its own, good for prediction only."""
        objective = objective_without_outputs(trained.binding, self.named)
        return OwnSteps(objective, self.named, trained.binding, self.optimizer, trained.overridden)

    def _own_objective(self, trained: Trained, batch: Batch) -> Objective:
        """Returns the objective of a model with methods of its own, which may not call it on `x` at all."""
        says_all = "train_step" in trained.overridden
        if says_all and not (self.named.scores_outputs and trained.can_be_called):
            return objective_without_outputs(trained.binding, self.named)
        named = self.named
        if batch.y is None and "compute_loss" in trained.overridden:  # which may have targets for it
            named = replace(named, loss=LossSpec.of(None, None))
        try:
            objective = build_objective(trained.binding, batch, named, trained.output_names)
            return replace(objective, row_wise=False)  # methods of one's own know nothing of padding
        except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
            if not says_all:
                raise
            return objective_without_outputs(trained.binding, self.named, error)

    def steps_on(self, trained: Trained, source: Source, y_name: str = "y") -> CompiledSteps:
        """Returns the steps for the data of `source`; labels are checked."""
        batch = source.first_batch()
        if not trained.overridden:
            _check_targets(self.named, batch, y_name)
        steps = self.steps_for(trained, batch)
        if steps.own is None:
            rows = getattr(source, "data", None)  # of arrays all rows are known, also through what wraps them
            steps.objective.check_labels(rows if isinstance(rows, Batch) else batch)
        return steps


def _check_targets(named: Named, batch: Batch, y_name: str) -> None:
    if batch.y is None and named.scores_outputs:
        raise ValueError(
            f"{y_name} is None, expected targets to compute the loss with. Pass y; for an autoencoder pass "
            "y=x."
        )


def _signature(batch: Batch) -> Any:
    """Returns what the objective depends on: nesting, shapes without the rows, dtypes."""
    leaves, structure = jax.tree.flatten((batch.x, batch.y, batch.sample_weight))
    return structure, tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
