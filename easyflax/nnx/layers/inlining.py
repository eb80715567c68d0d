"""Functions of jax as the layers call them: traced once, and the trace kept for later layers.

jax.numpy's own functions are inlined jitted functions too, which is what makes tracing them cheap.

Some libraries see the operations of a model by giving a function such as `jax.lax.dot_general` another body
while the model runs: qwix does, to quantize products or to add to them, and looks for the parameter among the
arguments. What was kept before is not for them, so the function itself is called then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["inlined", "is_replaced"]

_BODIES = {function: function.__code__ for function in (lax.dot_general, jnp.einsum)}


def is_replaced(function: Callable[..., Any]) -> bool:
    """Whether `function`, `lax.dot_general` or `jnp.einsum`, has another body than that of jax now."""
    return function.__code__ is not _BODIES[function]


def inlined(function: Callable[..., jax.Array], **options: Any) -> Callable[..., jax.Array]:
    """Returns `function`, `lax.dot_general` or `jnp.einsum`, jitted with these options and inlined."""
    traced = jax.jit(function, inline=True, **options)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> jax.Array:
        return (function if is_replaced(function) else traced)(*args, **kwargs)

    return call
