"""Layers applied one after the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from easyflax.nnx.core.containers import List
from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.layers import checks

__all__ = ["Sequential"]


class Sequential(Module):
    """Applies callables in order: modules, and plain functions such as activations.

    The output of one is the input of the next: a tuple as positional arguments, a dict as keyword arguments,
    anything else as the one argument. The callables are in the list `layers`, which can be indexed, iterated
    over, and changed.

    Args:
        *fns: the callables.

    Raises:
        TypeError: one of them cannot be called, or is a class of modules.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nnx.Linear(2, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 3, rngs=rngs))
        >>> model(jnp.ones((5, 2))).shape
        (5, 3)
        >>> len(model.layers), model.layers[-1].out_features
        (3, 3)
    """

    def __init__(self, *fns: Callable[..., Any]) -> None:
        for index, fn in enumerate(fns):
            if isinstance(fn, type) and issubclass(fn, Module):
                raise TypeError(
                    f"{type(self).__name__}: got the class {fn.__name__} as argument {index}, expected a "
                    f"module of that class. Make one, {fn.__name__}(...), with its sizes and rngs."
                )
            if not callable(fn):
                raise TypeError(
                    f"{type(self).__name__}: got a {type(fn).__name__} as argument {index}, expected a "
                    "module or a function. Pass the layers one by one, a list of them as Sequential(*layers)."
                )
        self.layers = List(fns)

    def __call__(self, *args: Any, rngs: Rngs | None = None, **kwargs: Any) -> Any:
        """Returns what the last callable returns; without any, the arguments.

        Args:
            *args: for the first callable.
            rngs: passed on to each callable that has a parameter of that name.
            **kwargs: for the first callable.

        Raises:
            TypeError: one of `layers` cannot be called.
        """
        if not len(self.layers):
            return _unchanged(args, kwargs)
        output: Any = None
        for index, fn in enumerate(self.layers):
            if index:
                args, kwargs = _as_arguments(output)
            if not callable(fn):
                raise TypeError(
                    f"{checks.describe(self)}: got a {type(fn).__name__} as layers[{index}], expected a "
                    "module or a function. Put something that can be called into that place."
                )
            if rngs is not None and _takes_rngs(fn):
                kwargs = {**kwargs, "rngs": rngs}
            output = fn(*args, **kwargs)
        return output


def _as_arguments(output: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(output, tuple):
        return output, {}
    if isinstance(output, dict):
        return (), output
    return (output,), {}


def _unchanged(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) == 1:
        return args[0]
    return args or kwargs or None


def _takes_rngs(fn: Callable[..., Any]) -> bool:
    try:
        parameter = inspect.signature(fn).parameters.get("rngs")
    except ValueError:  # some functions written in C do not tell
        return False
    return parameter is not None and parameter.kind in (
        parameter.KEYWORD_ONLY,
        parameter.POSITIONAL_OR_KEYWORD,
    )
