"""From what was named at `compile` to what the steps compute, checked against one batch beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    seed: int = 0,
) -> Objective:
    """Returns the objective for data like `batch`.

    Args:
        binding: the model.
        batch: only structure, shapes and dtypes are read.
        loss: as given to `compile`; if it leaves open whether it takes logits, the model's ending decides.
        metrics: as given to `compile`.
        optimizer: an optax transformation.
        seed: of the random streams that are passed to a module that takes `rngs=`.

    Raises:
        ValueError: the loss or a metric cannot be computed on this output and these targets, or a
            parameter's regularizer or constraint returns another shape than it should.
    """
    traced, (output, terms) = trace_inference(binding, batch.x)
    kinds = output_kinds(traced)[: len(jax.tree.leaves(output))]
    loss = loss.resolve(from_logits="logits" in kinds)
    y = specs(batch.y)
    with _naming(f"loss {loss.name!r}", y, output):
        row_wise = loss.is_row_wise(y, output) and not terms  # a padded row would count in the terms
    resolved: list[Metric] = []
    for spec in metrics:
        with _naming(f"metric {spec!r}", y, output):
            metric = easyflax.metrics.get(spec, output_shape=shapes(output), y_shape=shapes(y), loss=loss)
            metric.build_for(y, output)
            state = jax.eval_shape(metric.stateless_reset_state)
            jax.eval_shape(metric.stateless_update_state, state, y, output)
            row_wise = metric.is_row_wise(y, output) and row_wise
        resolved.append(metric)
    return Objective(
        apply=binding.apply,
        loss=loss,
        metrics=_by_name(resolved),
        optimizer=nest(optimizer, binding),
        output_shape=shapes(output),
        row_wise=row_wise,
        regularizers=_functions_of(binding, "regularizer"),
        constraints=_functions_of(binding, "constraint"),
        seed=seed if binding.takes_rngs else None,
    )


def trace_inference(binding: Binding, x: Any) -> tuple[ClosedJaxpr, tuple[Any, list[Any]]]:
    """Traces the inference forward on inputs like `x`.

    Returns:
        the trace, and as shapes and dtypes the output and the terms that the call adds to the loss.
    """
    params, other = binding.arrays()

    def forward(params: Any, other: Any, x: Any) -> tuple[Any, list[jax.Array]]:
        output, _, terms = binding.apply(params, other, x, training=False)
        return output, terms

    return jax.make_jaxpr(forward, return_shape=True)(params, other, x)


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
