"""What `compile` makes: loss, metrics and optimizer, and the steps built from them once data is seen."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax

import easyflax.losses
import easyflax.metrics
import easyflax.optimizers
from easyflax.data import ArraySource, Batch, as_batches
from easyflax.distribution import DataParallel
from easyflax.metrics import Metric
from easyflax.models.arguments import validation_epochs
from easyflax.models.by_structure import ByStructure
from easyflax.train.binding import Binding
from easyflax.train.engine import Engine
from easyflax.train.loop import Validation
from easyflax.train.objective import build_objective
from easyflax.train.session import CompiledSteps


class Compiled:
    """A model's training configuration, with everything that was compiled for it.

    Args:
        optimizer: a name, or an optax transformation.
        loss: a name, a `Loss`, or a function `(y_true, y_pred)`.
        metrics: a list of names, `Metric`s and functions, or None.
        seed: fixes the order of the data, and the random streams of a module that takes `rngs=`.
        distribution: the devices and what lies where.

    Raises:
        ValueError: a name is unknown, or there is no loss.

    Attributes:
        engine: runs the steps and keeps the optimizer state.
        metrics: the metrics in use, empty before data is seen.
    """

    def __init__(self, optimizer: Any, loss: Any, metrics: Any, seed: int, distribution: DataParallel | None):
        if loss is None:
            raise ValueError(
                "compile: loss is None, expected a name, a Loss or a function (y_true, y_pred). Pass for "
                "example loss='sparse_categorical_crossentropy' for classes numbered from 0, or loss='mse' "
                "for numbers."
            )
        self.seed = _checked_seed(seed)
        self.engine = Engine(
            easyflax.optimizers.get(optimizer).transformation, distribution or DataParallel()
        )
        self.metrics: list[Metric] = []
        self._loss = easyflax.losses.as_loss(loss)
        self._metric_specs = _listed(metrics)
        self._steps = ByStructure[CompiledSteps]()

    def steps_for(self, binding: Binding, batch: Batch) -> CompiledSteps:
        """Returns the steps for data like `batch`: the same ones while neither model nor data change."""

        def make() -> CompiledSteps:
            objective = build_objective(
                binding,
                batch,
                loss=self._loss,
                metrics=self._metric_specs,
                optimizer=self.engine.optimizer,
                seed=self.seed,
            )
            return CompiledSteps(objective, self.engine.layout)

        steps = self._steps.get((_signature(batch), binding.graphdef), make)
        self.metrics = list(steps.objective.metrics.values())
        return steps

    def training_data(
        self, binding: Binding, x: Any, y: Any, *, batch_size: int | None, shuffle: bool
    ) -> tuple[ArraySource, CompiledSteps]:
        """Returns the batches to train on, and the steps for them; labels are checked."""
        source = as_batches(x, y, batch_size=batch_size, shuffle=shuffle, seed=self.seed)
        return source, self._checked_steps(binding, source)

    def evaluation_data(
        self, binding: Binding, x: Any, y: Any, batch_size: int | None
    ) -> tuple[ArraySource, CompiledSteps]:
        """Returns the batches to evaluate on, padded if loss and metrics allow it, and the steps for them."""
        source = as_batches(x, y, batch_size=batch_size)
        steps = self._checked_steps(binding, source)
        if steps.objective.row_wise:
            source = source.padded(multiple_of=self.engine.layout.num_devices)
        return source, steps

    def validation(
        self,
        binding: Binding,
        data: tuple[Any, Any] | None,
        batch_size: int | None,
        freq: int | Collection[int],
    ) -> Validation | None:
        """Returns how a fit validates on `data`, a pair of inputs and targets; None for no data."""
        if data is None:
            return None
        return Validation(*self.evaluation_data(binding, *data, batch_size), validation_epochs(freq))

    def _checked_steps(self, binding: Binding, source: ArraySource) -> CompiledSteps:
        if source.y is None:
            raise ValueError(
                "y is None, expected targets to compute the loss with. Pass y; for an autoencoder pass y=x."
            )
        steps = self.steps_for(binding, source.first_batch())
        steps.objective.check_labels(source.y)
        return steps


def _signature(batch: Batch) -> Any:
    """Returns what the objective depends on: nesting, shapes without the rows, dtypes."""
    leaves, structure = jax.tree.flatten((batch.x, batch.y))
    return structure, tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)


def _listed(metrics: Any) -> list[Any]:
    if metrics is None:
        return []
    specs = list(metrics) if isinstance(metrics, list | tuple) else [metrics]
    for spec in specs:
        easyflax.metrics.check(spec)
    return specs


def _checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(
            f"compile: seed is {seed!r}, expected an integer of at least 0. Pass for example seed=0."
        )
    return seed
