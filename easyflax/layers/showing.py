"""Which attributes of a layer its `repr` leaves out: those that say nothing."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

from easyflax import initializers

__all__ = ["says_nothing"]

_NOT_GIVEN = inspect.Parameter.empty
_MEANT_BY_NONE = {"activation": "linear", "data_format": "channels_last"}


def says_nothing(layer: Any, name: str, value: Any) -> bool:
    """Says whether an attribute without data is as it is by default, or repeats others.

    Args:
        layer: a layer.
        name: of one of its attributes.
        value: of that attribute.
    """
    defaults = _defaults(type(layer))
    if name not in defaults or name == "dtype":  # that is told by dtype_policy
        return name == "built" or _is_of_nnx(type(layer))
    return value is None or _is_default(name, value, defaults[name])


def _is_default(name: str, value: Any, default: Any) -> bool:
    if default is _NOT_GIVEN:
        return False
    default = _MEANT_BY_NONE.get(name) if default is None else default
    if name.endswith("_initializer"):
        return bool(value == initializers.get(default))
    if callable(value):
        return default is not None and getattr(value, "__name__", None) == default
    if isinstance(value, tuple) and not isinstance(default, tuple | list):
        return all(size == default for size in value)
    return type(value) is type(default) and bool(value == default)


@lru_cache(maxsize=512)
def _defaults(cls: type) -> dict[str, Any]:
    """Returns the arguments of the constructors of a class, with their defaults."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base) and not base.__module__.startswith("easyflax.nnx."):
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            found = {**{one.name: one.default for one in parameters}, **found}
    return found


def _is_of_nnx(cls: type) -> bool:
    """Says whether a layer is one of `nnx`, too, whose own attributes follow from the constructor's."""
    return any(base.__module__.startswith("easyflax.nnx.layers.") for base in cls.__mro__)
