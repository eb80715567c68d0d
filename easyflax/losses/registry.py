"""From what a user writes (a name, a class, an object, a function) to a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from easyflax.errors import unknown_name_message
from easyflax.losses import probabilistic, regression
from easyflax.losses.base import FunctionLoss, Loss
from easyflax.naming import snake_case

__all__ = ["get", "known_names"]

_CLASSES = [getattr(module, name) for module in (regression, probabilistic) for name in module.__all__]
_SHORT_NAMES = {
    "mse": regression.MeanSquaredError,
    "mae": regression.MeanAbsoluteError,
    "mape": regression.MeanAbsolutePercentageError,
    "msle": regression.MeanSquaredLogarithmicError,
    "logcosh": regression.LogCosh,
    "bce": probabilistic.BinaryCrossentropy,
    "kld": probabilistic.KLDivergence,
    "kullback_leibler_divergence": probabilistic.KLDivergence,
}
_BY_NAME = {snake_case(cls.__name__): cls for cls in _CLASSES} | _SHORT_NAMES


def known_names() -> list[str]:
    """Returns the names that `get` knows."""
    return sorted(_BY_NAME)


def get(spec: str | Loss | type[Loss] | Callable[[Any, Any], Any]) -> Loss:
    """Returns the loss that `spec` stands for.

    Args:
        spec: a name as in Keras (`"mse"`, `"sparse_categorical_crossentropy"`, `"MeanSquaredError"`), a
            `Loss` or a subclass of it, or a function `(y_true, y_pred)` that returns one value a row. A
            cross-entropy given by name has `from_logits=None`: the trainer reads from the model's last layer
            whether it ends in logits.

    Raises:
        ValueError: the name is unknown.
        TypeError: `spec` is none of these.

    Examples:
        >>> get("mse").name
        'mean_squared_error'
    """
    if isinstance(spec, Loss):
        return spec
    if isinstance(spec, type) and issubclass(spec, Loss):
        return spec()
    if isinstance(spec, str):
        return _from_name(spec)
    if callable(spec):
        return FunctionLoss(spec)
    raise TypeError(
        f"A loss was given as {type(spec).__name__}, expected a name, an ef.losses object or a function "
        "(y_true, y_pred). Pass for example loss='mse'."
    )


def _from_name(name: str) -> Loss:
    cls = _BY_NAME.get(name.lower()) or _BY_NAME.get(snake_case(name))
    if cls is None:
        raise ValueError(unknown_name_message("loss", name, _BY_NAME))
    if issubclass(cls, probabilistic.Crossentropy):
        return cls(from_logits=None)
    return cls()
