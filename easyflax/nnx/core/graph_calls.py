"""Calling methods of modules that are given as a structure and a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from easyflax.nnx.core.graph import merge, split
from easyflax.nnx.core.graphdef import GraphDef

__all__ = ["apply_graphdef", "call"]


class _Accessor:
    """Remembers which method is wanted: `accessor.encoder.encode` on a module that does not exist yet."""

    def __init__(self, call: Callable[..., Any], path: tuple[Any, ...] = ()) -> None:
        self._call = call
        self._path = path

    def __getattr__(self, name: str) -> _Accessor:
        return _Accessor(self._call, (*self._path, name))

    def __getitem__(self, key: Any) -> _Accessor:
        return _Accessor(self._call, (*self._path, [key]))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._path, *args, **kwargs)


def call(graphdef_state: tuple[GraphDef[Any], Any], /) -> Any:
    """Returns something that stands for a module given as `(graphdef, state)`; calling it, or a method,
    returns `output, (graphdef, state)` with the state after the call.

    >>> import jax.numpy as jnp
    >>> from easyflax import nnx
    >>> pure = nnx.split({"gain": nnx.Dropout(0.5, rngs=nnx.Rngs(0))})
    >>> out, pure = nnx.call(pure)["gain"](jnp.ones(2))
    >>> int(pure[1]["gain"].rngs.count.value)
    1
    """
    return apply_graphdef(*graphdef_state)


def apply_graphdef(graphdef: GraphDef[Any], state: Any, *states: Any) -> Callable[..., Any]:
    """See `GraphDef.apply`."""

    def call(path: tuple[Any, ...], *args: Any, **kwargs: Any) -> Any:
        module = merge(graphdef, state, *states, copy=True)
        target: Any = module
        for part in path:
            target = target[part[0]] if isinstance(part, list) else getattr(target, part)
        return target(*args, **kwargs), split(module)

    return _Accessor(call)
