"""Who wants to know that a step is being compiled.

jax runs the Python code of a step when it traces it, right before it compiles it, and never again for batches
of the same shape. So that is where to tell, and steps that are compiled already cost nothing more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["telling", "watching"]

_watcher: ContextVar[Callable[[str], None] | None] = ContextVar("watcher", default=None)


@contextmanager
def watching(watcher: Callable[[str], None]) -> Iterator[None]:
    """Has `watcher` called with the name of each step that is traced within the block."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def telling(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a step, to be jitted, that tells when it is traced.

    Args:
        name: of the step, such as `"train step"`.
        step: the function; not one that computes eagerly, which would tell at every step.

    Examples:
        >>> import jax
        >>> double = jax.jit(telling("doubling", lambda x: 2 * x))
        >>> with watching(print):
        ...     float(double(1.0)), float(double(2.0))
        doubling
        (2.0, 4.0)
    """

    def traced(*args: Any, **kwargs: Any) -> Any:
        if (watcher := _watcher.get()) is not None:
            watcher(name)
        return step(*args, **kwargs)

    traced.__name__ = traced.__qualname__ = name.replace(" ", "_")  # as it is called in profiles
    return functools.update_wrapper(traced, step, assigned=("__doc__",), updated=())
