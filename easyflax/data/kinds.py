"""Tells objects of other libraries by the names of their classes: none of those libraries is imported."""

from __future__ import annotations

import functools
from typing import Any


def is_a(value: Any, package: str, *names: str) -> bool:
    """Returns whether `value` is of one of the classes `names` that `package` defines, or derives from one.

    Args:
        value: anything.
        package: the package's name, as in `"torch"`; its modules count as well.
        names: of classes.

    Examples:
        >>> import collections
        >>> is_a(collections.OrderedDict(), "collections", "OrderedDict"), is_a({}, "torch", "Tensor")
        (True, False)
    """
    return _is_class_of(type(value), package, names)


@functools.lru_cache(maxsize=256)  # asked for each array of each batch
def _is_class_of(kind: type, package: str, names: tuple[str, ...]) -> bool:
    return any(
        parent.__name__ in names and str(parent.__module__).partition(".")[0] == package
        for parent in kind.__mro__
    )


def type_name(value: Any) -> str:
    """Returns the name of the class of `value` as users know it, as in `pandas.DataFrame` or `list`."""
    package = str(type(value).__module__).partition(".")[0]
    return (
        type(value).__name__ if package in ("builtins", "__main__") else f"{package}.{type(value).__name__}"
    )
