"""Functions of jax under Keras's names and argument names, from tables of signatures.

A line `sum(x, axis=None, keepdims=False)` of a table makes a function of these arguments. What has no default
is handed to jax by position, what has one by its name. Lists and NumPy arrays become jax arrays in the
arguments that hold arrays, and a symbolic argument makes the call a step of a model.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from easyflax.dispatch import symbolic_aware

__all__ = ["as_array", "from_table"]

# The arguments that hold one array, and those that hold several.
_ONE = frozenset(["x", "x1", "x2", "y", "a", "b", "array", "condition", "data", "targets", "predictions"])
_SEVERAL = frozenset({"xs"})
_LINE = re.compile(r"(\w+)\((.*)\)")


def as_array(value: Any) -> Any:
    """Returns lists and NumPy arrays as jax arrays; numbers stay, so that they decide no dtype."""
    return jnp.asarray(value) if isinstance(value, (list, tuple, np.ndarray, np.generic)) else value


def from_table(home: Any, prefix: str, table: str) -> dict[str, Callable[..., Any]]:
    """Returns the functions that a table states, by name.

    Args:
        home: where jax has them, such as `jax.numpy`.
        prefix: how `home` is called in docstrings.
        table: lines `name(argument, argument=default)`.
    """
    lines = [_LINE.fullmatch(line.strip()) for line in table.strip().splitlines()]
    made = {}
    for match in lines:
        assert match is not None
        name, arguments = match.groups()
        made[name] = _function(name, getattr(home, name), _signature(arguments), f"{prefix}.{name}")
    return made


def _signature(arguments: str) -> inspect.Signature:
    parameters = []
    for argument in filter(None, arguments.split(", ")):
        name, has_default, default = argument.partition("=")
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=ast.literal_eval(default) if has_default else inspect.Parameter.empty,
            )
        )
    return inspect.Signature(parameters)


def _function(name: str, target: Any, signature: inspect.Signature, source: str) -> Callable[..., Any]:
    by_name = {p.name for p in signature.parameters.values() if p.default is not p.empty}

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs).arguments
        positional = [_prepared(key, value) for key, value in bound.items() if key not in by_name]
        named = {key: _prepared(key, value) for key, value in bound.items() if key in by_name}
        return target(*positional, **named)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Returns what `{source}` returns, under Keras's names of the arguments."
    call.__signature__ = signature  # type: ignore[attr-defined]  # what inspect.signature reads
    return symbolic_aware(call)


def _prepared(name: str, value: Any) -> Any:
    if name in _ONE:
        return as_array(value)
    return (
        [as_array(item) for item in value] if name in _SEVERAL and isinstance(value, (list, tuple)) else value
    )
