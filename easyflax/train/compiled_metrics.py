"""The metrics of a whole model: those of each output, unweighted and weighted, by the names in the logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import easyflax.metrics as metrics
from easyflax.losses import Loss
from easyflax.metrics import Metric
from easyflax.train.compiled_loss import CompiledLoss, unused_name
from easyflax.train.outputs import Outputs
from easyflax.train.specs import naming, shapes

__all__ = ["CompiledMetrics", "MetricsSpec", "OutputMetric"]


@dataclass(frozen=True)
class OutputMetric:
    """A metric of one output.

    Attributes:
        metric: what accumulates.
        output: the number of the output; None for one that takes targets and outputs as they are nested.
        is_weighted: whether sample weights count.
    """

    metric: Metric
    output: int | None
    is_weighted: bool


@dataclass(frozen=True)
class CompiledMetrics:
    """All metrics, by log name.

    Attributes:
        by_name: the metrics.
        loss: knows which targets and weights belong to which output.
    """

    by_name: Mapping[str, OutputMetric]
    loss: CompiledLoss

    def arguments(
        self, scored: OutputMetric, y: Any, y_pred: Any, sample_weight: Any
    ) -> tuple[Any, Any, Any]:
        """Returns targets, outputs and sample weights (or None) for a metric."""
        weight = sample_weight if scored.is_weighted else None
        if scored.output is None:
            return y, y_pred, weight
        outputs = self.loss.outputs
        targets, i = self.loss.targets(y), scored.output
        return targets[i], outputs.leaves(y_pred)[i], self.loss.weights(weight)[i]


class Unweighted(Metric):
    """A metric that leaves sample weights aside, whoever passes them.

    Args:
        metric: what accumulates.
    """

    def __init__(self, metric: Metric):
        super().__init__(name=metric.name, dtype=metric.dtype)
        self.metric = metric

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        del sample_weight
        self.metric.update_state(y_true, y_pred)

    def result(self) -> Any:
        """Returns what the metric says."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Empties the metric."""
        self.metric.reset_state()


@dataclass(frozen=True)
class MetricsSpec:
    """What `compile` was given as `metrics` or `weighted_metrics`, nested as given."""

    spec: Any
    argument: str

    @classmethod
    def of(cls, spec: Any, argument: str) -> MetricsSpec:
        """Returns the checked specification.

        Raises:
            TypeError: there is something else than metrics.
            ValueError: a name is unknown.
        """
        for one in _flat(spec):
            metrics.check(one)
        return cls(spec, argument)

    def for_each(self, outputs: Outputs) -> list[list[Any]]:
        """Returns the specifications for each output.

        Raises:
            ValueError: they do not fit the outputs.
        """
        if not self.spec:
            return [[] for _ in range(len(outputs))]
        if len(outputs) == 1:
            return [_flat(self.spec)]
        if _is_one(self.spec):
            raise ValueError(
                f"{self.argument}={self.spec!r} is one metric for {outputs.shown()}, expected to be told "
                f"which it is of. Pass a dict by their names, such as {{{outputs.names[0]!r}: "
                f"{self.spec!r}}}, or a list with one entry an output."
            )
        return [_flat(entry) for entry in outputs.align(self.spec, self.argument, _is_entry)]


def resolve_metrics(
    unweighted: MetricsSpec, weighted: MetricsSpec, y: Any, y_pred: Any, loss: CompiledLoss
) -> CompiledMetrics:
    """Returns the metrics for outputs and targets.

    Args:
        unweighted: of `metrics`.
        weighted: of `weighted_metrics`.
        y: targets, as shapes and dtypes.
        y_pred: outputs, likewise.
        loss: of the whole model.

    Raises:
        ValueError: they do not fit.
    """
    if not (unweighted.spec or weighted.spec):
        return CompiledMetrics({}, loss)
    found: dict[str, OutputMetric] = {}
    outputs, taken = loss.outputs, ["loss", *loss.log_names]
    losses = {part.output: part.loss for part in loss.parts}
    targets, leaves = loss.targets(y), outputs.leaves(y_pred)
    for spec, is_weighted in ((unweighted, False), (weighted, True)):
        for i, given in enumerate(spec.for_each(outputs)):
            prefix = outputs.names[i] if len(outputs) > 1 else None
            for one in given:
                number, pair = (None, (y, y_pred)) if loss.is_whole else (i, (targets[i], leaves[i]))
                with naming(f"metric {one!r}", *pair):
                    metric = _made(one, *pair, losses.get(i))
                name = _with_prefix(metric.name, prefix)
                if is_weighted and name in found:
                    name = _with_prefix(f"weighted_{metric.name}", prefix)
                found[unused_name(name, [*taken, *found])] = OutputMetric(metric, number, is_weighted)
    return CompiledMetrics(found, loss)


def _made(spec: Any, y: Any, y_pred: Any, loss: Loss | None) -> Metric:
    metric = metrics.get(spec, output_shape=shapes(y_pred), y_shape=shapes(y), loss=loss)
    metric.build_for(y, y_pred)
    return metric


def _with_prefix(name: str, prefix: str | None) -> str:
    return f"{prefix}_{name}" if prefix else name


def _flat(spec: Any) -> list[Any]:
    """Returns the metrics in a nesting, in order."""
    if spec is None:
        return []
    if isinstance(spec, Mapping) and "class_name" not in spec:
        return [one for entry in spec.values() for one in _flat(entry)]
    if isinstance(spec, list | tuple):
        return [one for entry in spec for one in _flat(entry)]
    return [spec]


def _is_one(spec: Any) -> bool:
    return not isinstance(spec, list | tuple | Mapping)


def _is_entry(spec: Any) -> bool:
    """Says whether it stands for one output: a metric, or a list of metrics."""
    return _is_one(spec) or (isinstance(spec, list | tuple) and all(map(_is_one, spec)))
