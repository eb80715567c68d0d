"""`nnx.cached_partial`: a function with some of its modules given in advance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from easyflax.nnx.core.differences import structure_differences
from easyflax.nnx.core.graph import clone
from easyflax.nnx.core.walk import walk

__all__ = ["cached_partial"]


def cached_partial(f: Callable[..., Any], /, *cached_args: Any) -> Callable[..., Any]:
    """Returns `f` with its first arguments given, the modules among them in their present structure.

    The modules are copied, and the copies share the variables: changes that `f` makes to variables are seen
    in the modules that were passed, and the other way round. Changes of structure are not: a mode such as
    `deterministic` stays as it was at this call. (`nnx.jit` finds an unchanged model as quickly without.)

    Args:
        f: a function, usually transformed: `nnx.jit(...)`.
        *cached_args: its first arguments.

    Raises:
        ValueError: `f` changed the structure of one of the modules, which the caller's would not get.

    Example:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> @nnx.jit
        ... def step(counter, by):
        ...     counter["count"] += by
        >>> counter = {"count": nnx.Variable(jnp.array(0))}
        >>> increment = nnx.cached_partial(step, counter)
        >>> increment(3)
        >>> int(counter["count"])
        3
    """
    copies = clone(cached_args, variables=False)
    found = walk(*copies)
    structure = found.graphdef

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal found
        out = f(*copies, *args, **kwargs)
        now = walk(*copies)
        if now is not found and now.graphdef != structure:
            changes = "\n  ".join(structure_differences(structure, now.graphdef))
            raise ValueError(
                f"{getattr(f, '__name__', f)!r} changed the structure of modules that cached_partial gave "
                f"it, expected changes to the values of variables only:\n  {changes}\nPass these modules as "
                "arguments, or undo the change before the function returns (nnx.pop takes out what was sown)."
            )
        found = now
        return out

    return wrapper
