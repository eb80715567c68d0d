"""Lets symbolic values take over the calls of modules that they are passed to; see `easyflax.dispatch`.

This is how `layer(x)` with a symbolic `x` writes down a step of a graph instead of computing, for every
module there is.

Python looks `__call__` up on the class, so the classes' methods are replaced. That is done by the first call
of `intercept_calls`, for all classes there are and all that follow; programs that never ask for it pay
nothing.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from easyflax.dispatch import find_symbolic

__all__ = ["intercept_calls", "intercept_new"]

_roots: list[type] = []


def intercept_calls(root: type) -> None:
    """From now on calls of instances of `root` and its subclasses look for symbolic arguments."""
    if root in _roots:
        return
    _roots.append(root)
    waiting = [root]
    while waiting:
        cls = waiting.pop()
        _intercept(cls)
        waiting += type.__subclasses__(cls)


def intercept_new(cls: type) -> None:
    """Has a class that is being made intercepted, if its base is."""
    if _roots and issubclass(cls, tuple(_roots)):
        _intercept(cls)


def _intercept(cls: type) -> None:
    call = vars(cls).get("__call__")
    if callable(call) and not hasattr(call, "__intercepts__"):
        setattr(cls, "__call__", _intercepting(call))  # noqa: B010  pyright: a type has no such attribute


def _intercepting(call: Callable[..., Any]) -> Callable[..., Any]:
    plain = inspect.isfunction(call)

    @functools.wraps(call)
    def intercepting(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        symbolic = find_symbolic((args, kwargs))
        if symbolic is not None:
            return symbolic.__easyflax_call__(self, args, kwargs)
        if plain:
            return call(self, *args, **kwargs)
        return call.__get__(self, type(self))(*args, **kwargs)  # such as one made by nnx.jit

    intercepting.__intercepts__ = True  # type: ignore[attr-defined]
    for name in () if plain else dir(call):  # such as `defjvp` of one made by nnx.custom_jvp
        if not name.startswith("_") and callable(method := getattr(call, name)):
            setattr(intercepting, name, method)
    return intercepting
