"""From what a user writes (a name, a class, an object, a function) to a metric, with the help of shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import easyflax.losses as losses
from easyflax.errors import unknown_name_message
from easyflax.losses.base import Loss
from easyflax.losses.shapes import Shape
from easyflax.metrics import accuracy
from easyflax.metrics.base import Metric
from easyflax.metrics.reduction import FunctionMetric, LossMetric
from easyflax.naming import snake_case

__all__ = ["MetricSpec", "check", "get"]

MetricSpec = str | Metric | type[Metric] | Loss | Callable[[Any, Any], Any]

_BY_NAME: dict[str, type[Metric]] = {
    snake_case(name): getattr(accuracy, name)
    for name in accuracy.__all__
    if name[0].isupper() and name != "Accuracy"
}
_BY_SHAPE = ("accuracy", "acc", "top_k")


def check(spec: MetricSpec) -> None:
    """Raises unless `spec` stands for a metric; the shapes need not be known yet.

    Raises:
        ValueError: the name is unknown.
        TypeError: `spec` is not a name, a metric, a loss or a function.
    """
    if isinstance(spec, str):
        known = {*_BY_SHAPE, *_BY_NAME, *losses.known_names()}
        if not {spec.lower(), snake_case(spec)} & known:
            raise ValueError(unknown_name_message("metric", spec, known))
    elif not callable(spec) and not isinstance(spec, Metric):
        raise TypeError(
            f"A metric was given as {type(spec).__name__}, expected a name, an ef.metrics object or a "
            "function (y_true, y_pred). Pass for example metrics=['accuracy']."
        )


def get(spec: MetricSpec, *, output_shape: Shape, y_shape: Shape, loss: Loss | None = None) -> Metric:
    """Returns the metric that `spec` stands for.

    Args:
        spec: a name as in Keras (`"accuracy"`, `"mae"`, `"SparseCategoricalAccuracy"`, any loss's name), a
            `Metric` or a subclass of it, a loss, or a function `(y_true, y_pred)` that returns one value a
            row. `"accuracy"`, `"acc"` and `"top_k"` become the binary, categorical or sparse one by the
            shapes.
        output_shape: the shape of the model's output, with its batch axis.
        y_shape: the shape of the labels, likewise.
        loss: the loss of that output; a metric given by name reads logits when the loss does.

    Raises:
        ValueError: the name is unknown.
        TypeError: `spec` is none of these.
    """
    check(spec)
    if isinstance(spec, Metric):
        return spec
    if isinstance(spec, str):
        return _from_name(spec, output_shape, y_shape, bool(loss is not None and loss.from_logits))
    if isinstance(spec, type) and issubclass(spec, Metric):
        return spec()
    if isinstance(spec, Loss):
        return LossMetric(spec)
    return FunctionMetric(spec)


def _from_name(name: str, output_shape: Shape, y_shape: Shape, from_logits: bool) -> Metric:
    key = name.lower()
    key = key if key in _BY_SHAPE or key in _BY_NAME else snake_case(name)
    cls = _by_shape(key, output_shape, y_shape) if key in _BY_SHAPE else _BY_NAME.get(key)
    if cls is None:
        return LossMetric(losses.as_loss(name).resolve(from_logits=from_logits), name)
    if cls is accuracy.BinaryAccuracy:
        return accuracy.BinaryAccuracy(name, threshold=0.0 if from_logits else 0.5)
    return cls(name=name)


def _by_shape(key: str, output_shape: Shape, y_shape: Shape) -> type[Metric]:
    """Keras's rule: one unit is binary; labels without the class axis are indices, else one-hot."""
    sparse = len(y_shape) < len(output_shape) or y_shape[-1] == 1
    if key == "top_k":
        return accuracy.SparseTopKCategoricalAccuracy if sparse else accuracy.TopKCategoricalAccuracy
    if len(output_shape) < 2 or output_shape[-1] == 1:
        return accuracy.BinaryAccuracy
    return accuracy.SparseCategoricalAccuracy if sparse else accuracy.CategoricalAccuracy
