"""From what a user writes (a name, an object, a configuration, a function) to a constraint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from easyflax.constraints import constraints
from easyflax.naming import snake_case
from easyflax.serialization import deserializing, get_by_name

__all__ = ["deserialize", "get"]

_CLASSES: dict[str, type] = {name: getattr(constraints, name) for name in constraints.__all__}
_KNOWN = {**_CLASSES, **{snake_case(name): cls for name, cls in _CLASSES.items()}}


def get(identifier: Any) -> Callable[[Any], Any] | None:
    """Returns the constraint that `identifier` stands for; None for None.

    Args:
        identifier: a name as in Keras (`"non_neg"`, `"MaxNorm"`), a configuration, a `Constraint` or a
            subclass of it, or a function from an array to an array of its shape.

    Raises:
        ValueError: the name is unknown, or `identifier` is none of these.

    Examples:
        >>> get("max_norm")
        MaxNorm(max_value=2, axis=0)
    """
    if identifier is None:
        return None
    found = get_by_name("constraint", identifier, _KNOWN)
    if isinstance(found, type):
        return found()
    if callable(found):
        return found
    raise ValueError(
        f"A constraint was given as {type(identifier).__name__}, expected a name, an ef.constraints object "
        "or a function. Pass for example ef.constraints.MaxNorm(2)."
    )


deserialize = deserializing(get)
