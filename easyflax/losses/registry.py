"""From what a user writes (a name, a class, an object, a configuration, a function) to a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import easyflax.serialization as serialization
from easyflax.losses import (
    binary,
    categorical,
    distributions,
    embeddings,
    margins,
    overlap,
    regression,
    sequences,
    sparse,
)
from easyflax.losses.base import BuiltInLoss, FunctionLoss, Loss
from easyflax.losses.shapes import Shape
from easyflax.naming import snake_case

__all__ = ["as_loss", "check", "deserialize", "get", "known_names", "serialize"]


def _classes(module: ModuleType) -> list[type[BuiltInLoss]]:
    found = [getattr(module, name) for name in module.__all__]
    return [item for item in found if isinstance(item, type)]


_FAMILIES = (binary, categorical, distributions, embeddings, margins, overlap, regression, sequences, sparse)
_CLASSES = [cls for module in _FAMILIES for cls in _classes(module)]
_CLASS_OF: dict[Callable[..., Any], type[BuiltInLoss]] = {cls.function: cls for cls in _CLASSES}
_SHORT_NAMES = {
    "bce": binary.binary_crossentropy,
    "kld": distributions.kl_divergence,
    "kullback_leibler_divergence": distributions.kl_divergence,
    "logcosh": regression.log_cosh,
    "mae": regression.mean_absolute_error,
    "mape": regression.mean_absolute_percentage_error,
    "mse": regression.mean_squared_error,
    "msle": regression.mean_squared_logarithmic_error,
}
_FUNCTIONS = {function.__name__: function for function in _CLASS_OF} | _SHORT_NAMES
_KNOWN: dict[str, Any] = (
    {name.upper(): function for name, function in _SHORT_NAMES.items()}
    | {snake_case(cls.__name__): cls.function for cls in _CLASSES}
    | _FUNCTIONS
    | {cls.__name__: cls for cls in _CLASSES}
)
_BY_SHAPE = ("crossentropy", "ce")


def known_names() -> list[str]:
    """Returns the names of losses and their short forms."""
    return sorted(_FUNCTIONS)


def get(identifier: Any) -> Any:
    """Returns the loss or loss function that `identifier` stands for; None for None.

    Args:
        identifier: the name of a function (`"mse"`, `"mean_squared_error"`), which is returned, or of a class
            (`"MeanSquaredError"`), a configuration (as from `serialize`), a `Loss` or a subclass of it, or a
            function `(y_true, y_pred)`.

    Raises:
        ValueError: the name is unknown.
        TypeError: `identifier` is none of these.

    Examples:
        >>> get("mse")([[0.0]], [[3.0]])
        Array([9.], dtype=float32)
        >>> get("MeanSquaredError")
        MeanSquaredError(name='mean_squared_error')
    """
    return None if identifier is None else _found(identifier)


def _found(identifier: Any) -> Any:
    identifier = serialization.get_by_name("loss", identifier, _KNOWN, [*_FUNCTIONS, *_BY_SHAPE])
    if isinstance(identifier, type) and callable(identifier):
        identifier = identifier()
    if callable(identifier):
        return identifier
    raise TypeError(
        f"A loss was given as {type(identifier).__name__}, expected a name, an ef.losses object or a "
        "function (y_true, y_pred). Pass for example loss='mse'."
    )


def check(spec: Any) -> None:
    """Raises unless a model can be compiled with `spec`; the shapes need not be known yet.

    Raises:
        ValueError: the name is unknown.
        TypeError: `spec` is not a name, a loss, a configuration or a function.
    """
    if not _is_by_shape(spec):
        _found(spec)


def as_loss(spec: Any, *, output_shape: Shape | None = None, y_shape: Shape | None = None) -> Loss:
    """Returns the `Loss` of a model that is compiled with `spec`.

    Args:
        spec: what `get` takes, or `"crossentropy"` or `"ce"`, which become the binary, categorical or sparse
            one by the shapes. A cross-entropy given by name has `from_logits=None`: the trainer reads from
            the model's ending whether it returns logits.
        output_shape: the shape of the model's output, with its batch axis; needed for these two names.
        y_shape: the shape of the labels, likewise.

    Raises:
        ValueError: the name is unknown, or needs shapes.
        TypeError: `spec` is none of these.

    Examples:
        >>> as_loss("mse")
        MeanSquaredError(name='mse')
        >>> as_loss("crossentropy", output_shape=(None, 10), y_shape=(None,))
        SparseCategoricalCrossentropy(name='crossentropy')
    """
    found = _crossentropy(output_shape, y_shape) if _is_by_shape(spec) else _found(spec)
    name = spec if isinstance(spec, str) else None
    if isinstance(found, Loss):
        loss = found
    elif found in _CLASS_OF:
        cls: Any = _CLASS_OF[found]
        loss = cls(name=name or found.__name__)
    else:
        loss = FunctionLoss(found, name=name)
    if name is not None and "from_logits" in vars(loss):
        loss.from_logits = None
    return loss


_deserialize = serialization.deserializing(get)


def serialize(loss: Any) -> Any:
    """Returns the plain JSON that `deserialize` makes the loss again of.

    Raises:
        TypeError: it cannot be written as JSON.
    """
    return serialization.serialize(loss)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns the loss that was serialized, here or in Keras.

    Args:
        name: what `serialize` returned, or a name.
        custom_objects: classes and functions that may be named besides the registered ones.

    Raises:
        ValueError: the name is unknown, or the configuration is that of something else.
        TypeError: a class or function is unknown.
    """
    return _deserialize(name, custom_objects)


def _is_by_shape(spec: Any) -> bool:
    return isinstance(spec, str) and spec.lower() in _BY_SHAPE


def _crossentropy(output_shape: Shape | None, y_shape: Shape | None) -> Callable[..., Any]:
    """Keras's rule: one unit is binary; labels without the class axis are indices, else one-hot."""
    if output_shape is None or y_shape is None:
        raise ValueError(
            "The loss 'crossentropy' is chosen by the shapes of labels and outputs, which are not known. "
            "Pass output_shape= and y_shape=, or take 'binary_crossentropy', 'categorical_crossentropy' or "
            "'sparse_categorical_crossentropy'."
        )
    if output_shape[-1] == 1:
        return binary.binary_crossentropy
    if len(y_shape) < len(output_shape) or y_shape[-1] == 1:
        return sparse.sparse_categorical_crossentropy
    return categorical.categorical_crossentropy
