"""Steps that take and return the same arrays as others, and compute nothing: what is left is handing over.

A step that runs on a device asynchronously hides what it costs to dispatch it, and on a CPU small ones run
within the call that dispatches them. The difference between a step and its hollow twin is what the device
computes, on any platform and without a profiler.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.distribution import DataParallel
from easyflax.train.dispatch import Dispatch

__all__ = ["hollow", "hollow_dispatch"]


def hollow(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of the same arguments and results that gives back arrays of its first argument.

    Results whose shape and dtype no array of the first argument has are zeros.

    Args:
        function: of pytrees of arrays, the first of which is usually donated.

    Examples:
        >>> state, loss = hollow(lambda state, x: (state * 2, x.sum()))(jnp.ones(3), jnp.ones(5))
        >>> state.tolist(), float(loss)
        ([1.0, 1.0, 1.0], 0.0)
    """

    def same(first: Any, *others: Any) -> Any:
        given: dict[Any, deque[Any]] = {}
        for leaf in jax.tree.leaves(first):
            given.setdefault(_kind(leaf), deque()).append(leaf)
        nothing = _nothing(others)

        def result(spec: Any) -> Any:
            if waiting := given.get(_kind(spec)):
                # The barrier lets the array pass through the compiled function, not around it.
                return jax.lax.optimization_barrier(waiting.popleft())
            zeros = jnp.zeros(spec.shape, spec.dtype)
            return zeros if _is_key(spec) else zeros + nothing.astype(spec.dtype)

        return jax.tree.map(result, jax.eval_shape(function, first, *others))

    return same


def hollow_dispatch(dispatch: Dispatch, layout: DataParallel) -> Dispatch:
    """Returns what hands over the same arrays as another dispatch, and computes nothing."""

    def twin(step: Callable[..., Any]) -> Callable[..., Any]:
        return layout.jit(hollow(step), donate_argnums=(0,))

    same = copy.copy(dispatch)
    same.step, same.many = twin(dispatch.step), twin(dispatch.many)
    same.apply = None if dispatch.apply is None else twin(dispatch.apply)
    return same


def _nothing(arguments: Any) -> jax.Array:
    """Returns zero, made of all arguments, so that none is left out when the function is called."""
    firsts = [jnp.ravel(leaf)[:1] for leaf in jax.tree.leaves(arguments) if not _is_key(leaf)]
    return sum((jnp.sum(jnp.zeros_like(first) * first) for first in firsts), jnp.zeros(()))


def _kind(leaf: Any) -> tuple[Any, ...]:
    return jnp.shape(leaf), str(leaf.dtype)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
