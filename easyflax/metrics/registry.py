"""From what a user writes (a name, a class, an object, a configuration, a function) to a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import easyflax.losses as losses
import easyflax.nnx as nnx
import easyflax.serialization as serialization
from easyflax.losses.base import Loss
from easyflax.losses.shapes import Shape
from easyflax.metrics import (
    accuracy,
    auc,
    confusion_matrix,
    correlation,
    f_score,
    iou,
    margins,
    operating_point,
    perplexity,
    probabilistic,
    r2_score,
    reduction,
    regression,
    thresholded,
)
from easyflax.metrics.base import Metric
from easyflax.metrics.reduction import FunctionMetric, LossMetric
from easyflax.naming import snake_case

__all__ = ["check", "deserialize", "get", "serialize"]

_FAMILIES = (
    accuracy,
    auc,
    confusion_matrix,
    correlation,
    f_score,
    iou,
    margins,
    operating_point,
    perplexity,
    probabilistic,
    r2_score,
    regression,
    thresholded,
)
_CLASSES: list[type[Metric]] = [
    *(reduction.Mean, reduction.MeanMetricWrapper, reduction.Sum),
    *(
        item
        for family in _FAMILIES
        for name in family.__all__
        if isinstance(item := getattr(family, name), type)
    ),
]
_SHORT_NAMES: dict[str, type[Metric]] = {
    "bce": probabilistic.BinaryCrossentropy,
    "kld": probabilistic.KLDivergence,
    "mae": regression.MeanAbsoluteError,
    "mape": regression.MeanAbsolutePercentageError,
    "mse": regression.MeanSquaredError,
    "msle": regression.MeanSquaredLogarithmicError,
    "rmse": regression.RootMeanSquaredError,
}
_KNOWN: dict[str, type[Metric]] = (
    {cls.__name__: cls for cls in _CLASSES}
    | {snake_case(cls.__name__): cls for cls in _CLASSES}
    | {name.upper(): cls for name, cls in _SHORT_NAMES.items()}
    | _SHORT_NAMES
)
_BY_SHAPE = ("accuracy", "acc", "top_k", "crossentropy", "ce")
_OF_LOSSES: dict[str, Any] = dict.fromkeys(losses.known_names(), losses.as_loss)
_LISTED = {snake_case(cls.__name__) for cls in _CLASSES} | {*_SHORT_NAMES, *_BY_SHAPE, *_OF_LOSSES}


def check(spec: Any) -> None:
    """Raises unless `spec` stands for a metric; the shapes need not be known yet.

    Raises:
        ValueError: the name is unknown.
        TypeError: `spec` is not a name, a metric, a loss, a configuration or a function.
    """
    if isinstance(spec, str):
        if spec.lower() not in _BY_SHAPE:
            _by_name(spec)
    elif isinstance(spec, nnx.Metric):
        raise TypeError(
            f"A metric was given as an nnx.metrics.{type(spec).__name__}, which is updated by keyword and "
            "not with labels and outputs; expected an ef.metrics object. Pass for example "
            "ef.metrics.SparseCategoricalAccuracy(), or update it in a train_step of your own."
        )
    elif not callable(spec) and not isinstance(spec, Mapping):
        raise TypeError(
            f"A metric was given as {type(spec).__name__}, expected a name, an ef.metrics object or a "
            "function (y_true, y_pred). Pass for example metrics=['accuracy']."
        )


def get(
    identifier: Any,
    *,
    output_shape: Shape | None = None,
    y_shape: Shape | None = None,
    loss: Loss | None = None,
) -> Any:
    """Returns the metric that `identifier` stands for; None for None.

    Args:
        identifier: a name as in Keras (`"mae"`, `"AUC"`, `"sparse_categorical_accuracy"`, any loss's name), a
            configuration (as from `serialize`), a `Metric` or a subclass of it, a loss, or a function
            `(y_true, y_pred)` that returns one value a row.
        output_shape: the shape of the model's output, with its batch axis. With it the answer is a metric
            whatever was given; without, a function is returned as it is. `"accuracy"`, `"acc"`, `"top_k"`,
            `"crossentropy"` and `"ce"` become the binary, categorical or sparse one by it.
        y_shape: the shape of the labels, likewise.
        loss: the loss of that output; a metric given by name reads logits when the loss does.

    Raises:
        ValueError: the name is unknown.
        TypeError: `identifier` is none of these, or a class that needs arguments.

    Examples:
        >>> get("mse")
        <MeanSquaredError name=mean_squared_error>
        >>> get("accuracy", output_shape=(None, 10), y_shape=(None,))
        <SparseCategoricalAccuracy name=accuracy>
    """
    if identifier is None:
        return None
    check(identifier)
    reads_logits = bool(loss is not None and loss.from_logits)
    if isinstance(identifier, str):
        if output_shape is None or y_shape is None:
            return _named(identifier, reads_logits)
        metric = _by_shape(identifier.lower(), output_shape, y_shape, reads_logits)
        metric = metric or _named(identifier, reads_logits)
        metric.name = identifier
        return metric
    if isinstance(identifier, Mapping):
        identifier = serialization.get_by_name("metric", identifier, _KNOWN)
    if isinstance(identifier, type):
        identifier = _made(identifier, {})
    if not callable(identifier):
        raise TypeError(
            f"A metric was given as what stands for a {type(identifier).__name__}, expected a name, an "
            "ef.metrics object, the configuration of one (with 'class_name' and 'config') or a function."
        )
    if isinstance(identifier, Metric) or output_shape is None:
        return identifier
    return LossMetric(identifier) if isinstance(identifier, Loss) else FunctionMetric(identifier)


def serialize(metric: Any) -> Any:
    """Returns a metric, or a function with a name, as plain JSON that `deserialize` makes it again of.

    Raises:
        TypeError: a function has no name.
    """
    return serialization.serialize(metric)


deserialize = serialization.deserializing(get)


def _named(name: str, reads_logits: bool) -> Any:
    """Returns a new metric; what can read logits is told whether it does."""
    found = _by_name(name)
    if isinstance(found, Loss):
        return LossMetric(found.resolve(from_logits=reads_logits))
    if not isinstance(found, type):
        return FunctionMetric(found)
    settings: dict[str, Any] = {}
    if reads_logits and found is accuracy.BinaryAccuracy:
        settings = {"threshold": 0.0}
    elif reads_logits and found in _READ_LOGITS:
        settings = {"from_logits": True}
    return _made(found, settings)


_READ_LOGITS = (
    auc.AUC,
    perplexity.Perplexity,
    probabilistic.BinaryCrossentropy,
    probabilistic.CategoricalCrossentropy,
    probabilistic.SparseCategoricalCrossentropy,
)


def _by_name(name: str) -> Any:
    """Returns the class, function or loss of a name, whose case does not matter."""
    found = serialization.get_by_name("metric", name, _OF_LOSSES | _KNOWN, _LISTED)
    return losses.as_loss(name) if found is losses.as_loss else found


def _by_shape(name: str, output_shape: Shape, y_shape: Shape, reads_logits: bool) -> Metric | None:
    """Keras's rule: one unit is binary; labels without the class axis are indices, else one-hot."""
    is_sparse = len(y_shape) < len(output_shape) or y_shape[-1] == 1
    if name in ("crossentropy", "ce"):
        loss = losses.as_loss(name, output_shape=output_shape, y_shape=y_shape)
        return LossMetric(loss.resolve(from_logits=reads_logits))
    if name == "top_k":
        return accuracy.SparseTopKCategoricalAccuracy() if is_sparse else accuracy.TopKCategoricalAccuracy()
    if name not in ("accuracy", "acc"):
        return None
    if len(output_shape) < 2 or output_shape[-1] == 1:
        return accuracy.BinaryAccuracy(threshold=0.0 if reads_logits else 0.5)
    return accuracy.SparseCategoricalAccuracy() if is_sparse else accuracy.CategoricalAccuracy()


def _made(cls: type, settings: dict[str, Any]) -> Any:
    try:
        return cls(**settings)
    except TypeError as error:
        raise TypeError(
            f"The metric {cls.__name__} was given without arguments, which it needs: {error}. Pass an "
            f"object, {cls.__name__}(...)."
        ) from error
