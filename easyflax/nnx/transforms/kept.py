"""Pure functions that are kept for as long as the function they were made from.

jax traces and compiles anew for every function object that it is given. `nnx.cond` and the loops are called
with the user's function directly, and make a pure function of it; making another one at each call would
compile at each call. So the pure function is kept with the user's, and refers to it weakly: it goes when the
user's function goes, with all that jax remembers about it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

_MOST = 16  # pure functions kept for each function of the user
_by_function: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def keep(table: dict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    """Returns what is in `table` under `key`, made now if it is not there; what was made first is dropped
    when there are many."""
    try:
        found = table.get(key)
    except TypeError:  # something in the key cannot be hashed
        return make()
    if found is None:
        while len(table) >= _MOST:
            del table[next(iter(table))]
        found = table[key] = make()
    return found


def kept_with(fun: Callable[..., Any], make: Callable[..., Any], *key: Any) -> Any:
    """Returns `make(get_fun, *key)`, the same one for equal keys as long as `fun` exists.

    Args:
        make: returns a pure function; it must refer to `fun` only by calling `get_fun()`.
    """
    try:
        table = _by_function.setdefault(fun, {})
    except TypeError:  # a callable that cannot be hashed, or not be referred to weakly
        return _named(make(lambda: fun, *key), fun)
    return keep(table, (make, key), lambda: _named(make(weakref.ref(fun), *key), fun))


def _named(pure: Any, fun: Callable[..., Any]) -> Any:
    pure.__name__ = pure.__qualname__ = name_of(fun)  # what profiles, jaxprs and jax's errors show
    return pure


def name_of(fun: Callable[..., Any]) -> str:
    """Returns the name of a function, for messages."""
    return getattr(fun, "__name__", type(fun).__name__)
