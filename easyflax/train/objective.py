"""From what was named at `compile` to what the steps compute, checked against one batch beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import optax

from easyflax.data import Batch
from easyflax.train.binding import Binding
from easyflax.train.compiled_loss import CompiledLoss, LossSpec
from easyflax.train.compiled_metrics import CompiledMetrics, MetricsSpec, resolve_metrics
from easyflax.train.nested_optimizer import nest
from easyflax.train.output_kind import output_kinds
from easyflax.train.outputs import Outputs
from easyflax.train.scores import Scores
from easyflax.train.specs import naming, shapes, specs
from easyflax.train.step import Objective

if TYPE_CHECKING:  # slow to import
    from jax.extend.core import ClosedJaxpr


@dataclass(frozen=True)
class Named:
    """What `compile` named, checked as far as names go.

    Attributes:
        loss: see `LossSpec`.
        metrics: unweighted ones.
        weighted_metrics: those that heed sample weights.
        optimizer: an optax transformation.
        seed: of the random streams that are passed to a module that takes `rngs=`.
    """

    loss: LossSpec
    metrics: MetricsSpec
    weighted_metrics: MetricsSpec
    optimizer: optax.GradientTransformation
    seed: int = 0

    @property
    def scores_outputs(self) -> bool:
        """Whether there is a loss or a metric."""
        return bool(self.loss.spec is not None or self.metrics.spec or self.weighted_metrics.spec)


def build_objective(
    binding: Binding, batch: Batch, named: Named, output_names: Sequence[str] | None = None
) -> Objective:
    """Returns the objective for data like `batch`.

    Args:
        binding: the model.
        batch: only structure, shapes and dtypes are read.
        named: what `compile` named; a loss that leaves open whether it takes logits goes by how the model
            ends.
        output_names: what the model calls its outputs.

    Raises:
        ValueError: the loss or a metric cannot be computed on these outputs and targets, or a parameter's
            regularizer or constraint returns another shape than it should.
    """
    traced, output, terms, sown = trace_inference(binding, batch.x)
    sown = {**sown, **_sown_in_training(binding, batch.x)}
    kinds = output_kinds(traced)[: len(jax.tree.leaves(output))]
    y, outputs = specs(batch.y), Outputs(output, output_names)
    loss = named.loss.resolve(y, output, outputs, kinds)
    row_wise = loss.is_row_wise(y, output) and not terms  # a padded row would count in the terms
    metrics = resolve_metrics(named.metrics, named.weighted_metrics, y, output, loss)
    row_wise = _check_metrics(metrics, y, output) and row_wise and not sown
    return Objective(
        apply=binding.apply,
        loss=loss,
        scores=Scores(("loss", *loss.log_names, *sown), metrics),
        optimizer=nest(named.optimizer, binding),
        output_shape=shapes(output),
        row_wise=row_wise,
        regularizers=_functions_of(binding, "regularizer"),
        constraints=_functions_of(binding, "constraint"),
        seed=named.seed if binding.takes_rngs else None,
        has_terms=bool(terms),
    )


def objective_without_outputs(binding: Binding, named: Named, reason: Exception | None = None) -> Objective:
    """Returns the objective of a model whose own steps say all: nothing is known of its outputs.

    Args:
        binding: the model.
        named: what `compile` named.
        reason: why metrics and loss cannot be computed on what the model returns for `x`.
    """
    loss = CompiledLoss((), Outputs(()))
    return Objective(
        apply=binding.apply,
        loss=loss,
        scores=Scores(("loss",), CompiledMetrics({}, loss)),
        optimizer=nest(named.optimizer, binding),
        output_shape=None,
        row_wise=False,
        regularizers=_functions_of(binding, "regularizer"),
        constraints=_functions_of(binding, "constraint"),
        seed=named.seed if binding.takes_rngs else None,
        reason=reason,
    )


def _check_metrics(metrics: CompiledMetrics, y: Any, output: Any) -> bool:
    """Computes each metric on shapes; returns whether all are row-wise."""
    row_wise = True
    for name, scored in metrics.by_name.items():
        targets, outputs, _ = metrics.arguments(scored, y, output, None)
        with naming(f"metric {name!r}", targets, outputs):
            metric = scored.metric
            state = jax.eval_shape(metric.stateless_reset_state)
            jax.eval_shape(metric.stateless_update_state, state, targets, outputs)
            row_wise = metric.is_row_wise(targets, outputs) and row_wise
    return row_wise


def _sown_in_training(binding: Binding, x: Any) -> dict[str, Any]:
    """Returns what the module adds to the logs in training, as shapes and dtypes."""
    params, other = binding.arrays()

    def sown(params: Any, other: Any, x: Any) -> dict[str, jax.Array]:
        return binding.apply(params, other, x, training=True).sown

    return jax.eval_shape(sown, params, other, x)


def trace_inference(binding: Binding, x: Any) -> tuple[ClosedJaxpr, Any, list[Any], dict[str, Any]]:
    """Traces the inference forward on inputs like `x`.

    Returns:
        the trace, and as shapes and dtypes the output and what the call adds to the loss and to the logs.
    """
    params, other = binding.arrays()

    def forward(params: Any, other: Any, x: Any) -> tuple[Any, list[jax.Array], dict[str, jax.Array]]:
        applied = binding.apply(params, other, x, training=False)
        return applied.output, applied.losses, applied.sown

    traced, found = jax.make_jaxpr(forward, return_shape=True)(params, other, x)
    return traced, *found


def _functions_of(binding: Binding, kind: str) -> dict[str, Callable[[Any], Any]]:
    """Returns the functions that trained parameters have as metadata, by path.

    Args:
        binding: the model.
        kind: "regularizer" or "constraint".

    Raises:
        TypeError: one cannot be called.
        ValueError: it returns another shape than it should.
    """
    functions = {name: variable.get_metadata(kind, None) for name, variable in binding.params.items()}
    functions = {name: function for name, function in functions.items() if function is not None}
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(
                f"The parameter {name!r} has the {kind} {function!r}, expected a function. Pass one, or an "
                f"object of easyflax.{kind}s."
            )
        value = specs(binding.params[name].get_raw_value())
        got = shapes(jax.eval_shape(function, value))
        wanted = () if kind == "regularizer" else shapes(value)
        if got != wanted:
            raise ValueError(
                f"The {kind} of the parameter {name!r} returns shape {got}, expected {wanted}. A regularizer "
                f"returns a scalar, a constraint a value of the parameter's own shape."
            )
    return functions
