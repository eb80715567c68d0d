"""From what was named at `compile` to what the steps compute, checked against one batch beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax
import optax

import easyflax.metrics
from easyflax.data import Batch
from easyflax.losses import Loss
from easyflax.metrics import Metric
from easyflax.train.binding import Binding
from easyflax.train.nested_optimizer import nest
from easyflax.train.output_kind import output_kinds
from easyflax.train.step import Objective

if TYPE_CHECKING:  # slow to import
    from jax.extend.core import ClosedJaxpr


def build_objective(
    binding: Binding,
    batch: Batch,
    *,
    loss: Loss,
    metrics: Sequence[Any],
    optimizer: optax.GradientTransformation,
) -> Objective:
    """Returns the objective for data like `batch`.

    Args:
        binding: the model.
        batch: only structure, shapes and dtypes are read.
        loss: as given to `compile`; if it leaves open whether it takes logits, the model's ending decides.
        metrics: as given to `compile`.
        optimizer: an optax transformation.

    Raises:
        ValueError: the loss or a metric cannot be computed on this output and these targets.
    """
    traced, output = trace_inference(binding, batch.x)
    loss = loss.resolve(from_logits="logits" in output_kinds(traced))
    y = specs(batch.y)
    with _naming(f"loss {loss.name!r}", y, output):
        row_wise = loss.is_row_wise(y, output)
    resolved: list[Metric] = []
    for spec in metrics:
        with _naming(f"metric {spec!r}", y, output):
            metric = easyflax.metrics.get(spec, output_shape=shapes(output), y_shape=shapes(y), loss=loss)
            jax.eval_shape(metric.update, jax.eval_shape(metric.init), y, output)
            row_wise = metric.is_row_wise(y, output) and row_wise
        resolved.append(metric)
    optimizer = nest(optimizer, binding)
    return Objective(binding.apply, loss, _by_name(resolved), optimizer, shapes(output), row_wise)


def trace_inference(binding: Binding, x: Any) -> tuple[ClosedJaxpr, Any]:
    """Returns the trace of the inference forward on inputs like `x`, and its output as shapes and dtypes."""
    params, other = binding.arrays()

    def forward(params: Any, other: Any, x: Any) -> Any:
        return binding.apply(params, other, x, training=False)[0]

    return jax.make_jaxpr(forward, return_shape=True)(params, other, x)


def specs(tree: Any) -> Any:
    """Returns the nesting of `tree` with shapes and dtypes at its leaves."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), tree)


def shapes(tree: Any) -> Any:
    """Returns the nesting of `tree` with shapes at its leaves."""
    return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)


@contextmanager
def _naming(what: str, y: Any, output: Any) -> Iterator[None]:
    """Says for losses and metrics that take one array each, and were given nestings, what the matter is."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        if hasattr(y, "shape") and hasattr(output, "shape"):
            raise  # says itself what does not fit
        raise ValueError(
            f"The {what} cannot be computed on targets of shape {shapes(y)} and outputs of shape "
            f"{shapes(output)}, expected one array each. Let the model return one array, or pass a function "
            f"(y_true, y_pred) that takes the nestings."
        ) from error


def _by_name(metrics: Sequence[Metric]) -> dict[str, Metric]:
    named = {metric.name: metric for metric in metrics}
    if len(named) < len(metrics) or "loss" in named:
        names = [metric.name for metric in metrics]
        raise ValueError(
            f"metrics are named {names}, expected different names, none of them 'loss'. Give one another "
            f"name=."
        )
    return named
