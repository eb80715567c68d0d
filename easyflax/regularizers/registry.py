"""From what a user writes (a name, an object, a configuration, a function) to a regularizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from easyflax.naming import snake_case
from easyflax.regularizers import regularizers
from easyflax.serialization import deserializing, get_by_name

__all__ = ["deserialize", "get"]

_CLASSES: dict[str, type] = {name: getattr(regularizers, name) for name in regularizers.__all__}
_KNOWN = {
    **_CLASSES,
    **{snake_case(name): cls for name, cls in _CLASSES.items()},
    "l1_l2": regularizers.L1L2,
}


def get(identifier: Any) -> Callable[[Any], Any] | None:
    """Returns the regularizer that `identifier` stands for; None for None.

    Args:
        identifier: a name as in Keras (`"l2"`, `"L1L2"`), a configuration, a `Regularizer` or a subclass of
            it, or a function from an array to a scalar.

    Raises:
        ValueError: the name is unknown, or `identifier` is none of these.

    Examples:
        >>> get("l2")
        L2(l2=0.01)
    """
    if identifier is None:
        return None
    found = get_by_name("regularizer", identifier, _KNOWN)
    if isinstance(found, type):
        return found()
    if callable(found):
        return found
    raise ValueError(
        f"A regularizer was given as {type(identifier).__name__}, expected a name, an ef.regularizers object "
        "or a function. Pass for example ef.regularizers.L2(0.01)."
    )


deserialize = deserializing(get)
