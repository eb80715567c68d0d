"""A first trace of a model's own `train_step`, on shapes alone: it shows what is still to be made.

Layers, optimizers and metrics that are built when they are first used would be built in the trace, on a copy
of the model, and be lost with it. They are noted instead, and built on the model itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

import easyflax.metrics.base as metrics
import easyflax.nnx as nnx
import easyflax.optimizers.stateful as optimizers
from easyflax import random
from easyflax.data import Batch
from easyflax.layers.building import unbuilt
from easyflax.train.own_steps import OwnSteps, Scope, pack
from easyflax.train.state import start_counters

__all__ = ["Trial", "build_what_waits", "try_step"]


@dataclass
class Trial:
    """What a trace showed.

    Attributes:
        uses_optimizer: whether the step asked for the optimizer of `compile`.
        layers: layers of the model that are to be built, each with the arguments of its first call.
        optimizers: optimizers, each with the variables that it is for.
        metrics: metrics, each with targets and outputs of its first update.
    """

    uses_optimizer: bool = False
    layers: list[tuple[Any, Any, Any]] = field(default_factory=list)
    optimizers: list[tuple[Any, list[Any]]] = field(default_factory=list)
    metrics: list[tuple[Any, tuple[Any, ...]]] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether nothing is to be built."""
        return not (self.layers or self.optimizers or self.metrics)

    def build(self) -> None:
        """Builds what waits for it."""
        for layer, args, kwargs in self.layers:
            layer.build_for(args, kwargs)
        for optimizer, variables in self.optimizers:
            optimizer.build(variables)
        for metric, arguments in self.metrics:
            metric.build_for(*arguments)


def build_what_waits(model: Any) -> bool:
    """Says whether there may be something in a model that its own steps have to build."""
    marks = ("built", "_built")  # of layers and optimizers, and of metrics
    return any(getattr(node, mark, True) is False for _, node in nnx.iter_graph(model) for mark in marks)


def try_step(own: OwnSteps, model: Any, batch: Batch, *, eager: bool = False) -> Trial:
    """Traces the `train_step` of a model on a batch, and returns what that showed.

    Args:
        own: its steps.
        model: itself.
        batch: only structure, shapes and dtypes are read.
        eager: runs the step instead, which may read values; what it computes is dropped.
    """
    trial = Trial()

    def run(params: Any, other: Any, batch: Batch) -> None:
        copy = own.binding.rebuild({**params, **other})
        originals = _originals(model, copy, trial.layers)
        opt_state = own.objective.optimizer.init(params)
        counters = start_counters(jnp.int32(0))
        scope = Scope(own, copy, own.objective.scores.fresh(), opt_state, counters)
        with optimizers.noting_builds() as built, metrics.noting_builds() as updated:
            scope.call("train_step", pack(batch))
        trial.uses_optimizer = scope.used_optimizer
        trial.optimizers = [
            (originals[id(one)], [originals[id(variable)] for variable in variables])
            for one, variables in built
            if id(one) in originals and all(id(variable) in originals for variable in variables)
        ]
        trial.metrics = [(originals[id(one)], specs) for one, specs in updated if id(one) in originals]

    try:
        with random.without_counting():
            if eager:
                run(*own.binding.arrays(), batch)
            else:
                jax.eval_shape(run, *own.binding.arrays(), batch)
    except Exception as error:
        if not trial.layers:  # else it may well be for want of their weights
            _tell_unbuilt(error, model)
            raise
    return trial


def _tell_unbuilt(error: Exception, model: Any) -> None:
    waiting = [".".join(map(str, path)) for path, layer in unbuilt(model) if path]
    if waiting:
        error.add_note(
            f"Of {type(model).__name__}, {', '.join(map(repr, waiting))} had no weights yet when train_step "
            "was traced, expected them before it takes gradients. Begin these with ef.Input(shape), or call "
            "build(input_shape)."
        )


def _originals(model: Any, copy: Any, layers: list[Any]) -> dict[int, Any]:
    """Returns what in a model corresponds to what in its copy, by the `id`s of the latter.

    Layers of the copy that are not built will note in `layers` when that is to be done.
    """
    nodes = dict(nnx.iter_graph(model))
    found = {id(node): nodes[path] for path, node in nnx.iter_graph(copy) if path in nodes}
    for path, node in nnx.iter_graph(copy):
        if getattr(node, "built", True) is False and hasattr(type(node), "_noted_in"):
            object.__setattr__(node, "_noted_in", (nodes[path], layers))
    return found
