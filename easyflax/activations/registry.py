"""From what a user writes (a name, a configuration, a function, a layer) to an activation, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import easyflax.serialization as serialization
from easyflax.activations import functions

__all__ = ["deserialize", "get", "serialize"]

_KNOWN: dict[str, Callable[..., Any]] = {name: getattr(functions, name) for name in functions.__all__}


def get(identifier: Any) -> Callable[..., Any]:
    """Returns the activation that `identifier` stands for; `linear` for None.

    Args:
        identifier: a name as in Keras (`"relu"`, `"softmax"`), a configuration, or a function or layer.

    Raises:
        ValueError: the name is unknown, or `identifier` is none of these.

    Examples:
        >>> get("hard_tanh")([-3.0, 0.5]).tolist()
        [-1.0, 0.5]
    """
    if identifier is None:
        return functions.linear
    found = serialization.get_by_name("activation", identifier, _KNOWN)
    if callable(found):
        return found
    raise ValueError(
        f"An activation was given as {type(identifier).__name__}, expected a name, a function or a layer. "
        "Pass for example 'relu'."
    )


def serialize(activation: Callable[..., Any]) -> Any:
    """Returns the name of one of these functions, and the configuration of any other activation.

    Raises:
        TypeError: `activation` is a lambda.

    Examples:
        >>> serialize(get("swish"))
        'silu'
    """
    name = getattr(activation, "__name__", None)
    return name if _KNOWN.get(str(name)) is activation else serialization.serialize(activation)


deserialize = serialization.deserializing(get)
