"""How functions of arrays answer to values that stand for arrays, without knowing who makes these.

A symbolic value (`easyflax.Input(...)`, and what layers return for it) has a method
`__easyflax_call__(function, args, kwargs)`, which writes the call down instead of computing it. A function
under `symbolic_aware` hands itself over to the first such value among its arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

__all__ = ["find_symbolic", "symbolic_aware"]

F = TypeVar("F", bound=Callable[..., Any])


def find_symbolic(values: Iterable[Any]) -> Any | None:
    """Returns the first symbolic value in `values`, also inside lists, tuples and dicts; else None.

    Examples:
        >>> find_symbolic([1, {"a": (2.0, None)}]) is None
        True
    """
    for value in values:
        if isinstance(value, (list, tuple)):
            value = find_symbolic(value)
        elif isinstance(value, dict):
            value = find_symbolic(value.values())
        if hasattr(type(value), "__easyflax_call__"):
            return value
    return None


def symbolic_aware(function: F) -> F:
    """Returns `function`, which for a symbolic argument is recorded in the graph of that value."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        symbolic = find_symbolic((args, kwargs))
        if symbolic is not None:
            return symbolic.__easyflax_call__(call, args, kwargs)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]  # the wrapper has the signature of what it wraps
