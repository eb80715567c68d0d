"""One call whose values are computed again for the gradient, made with whatever it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

import easyflax.nnx as nnx
from easyflax import masks
from easyflax.layers.loss_term import adding_by_copy, collecting_losses, has_added
from easyflax.nnx.core.tracking import Tracked

__all__ = ["is_within", "output_size", "rematerialized"]

_is_within: ContextVar[bool] = ContextVar("easyflax_is_within_remat", default=False)


def is_within() -> bool:
    """Says whether a call is running whose values will be computed again."""
    return _is_within.get()


@contextmanager
def _within() -> Iterator[None]:
    token = _is_within.set(True)
    try:
        yield
    finally:
        _is_within.reset(token)


def rematerialized(
    f: Callable[..., Any], module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], policy: Any = None
) -> Any:
    """Returns `f(module, *args, **kwargs)`, whose values are computed again for the gradient.

    Arrays, modules and variables among the arguments may be of a transform; everything else is constant.
    Masks go along with the arrays.
    """
    # Nobody differentiates outside of all transforms; and what is built in the call must not be a copy.
    if not _is_traced((module, args, kwargs)) or _waits_for_weights(module) or has_added(module):
        return f(module, *args, **kwargs)
    parted = _Parted((args, kwargs))
    results: list[_Parted] = []

    def pure(module: Any, arrays: list[Any], given: list[Any]) -> tuple[list[Any], list[Any]]:
        masks.attach_masks(arrays, given)
        args, kwargs = parted.joined(arrays)
        with _within():
            outputs = _Parted(f(module, *args, **kwargs))
        results.append(outputs)
        return outputs.arrays, _masks(outputs.arrays)

    with adding_by_copy(module):
        arrays, found = nnx.remat(pure, policy=policy)(module, parted.arrays, _masks(parted.arrays))
    masks.attach_masks(arrays, found)
    return results[-1].joined(arrays)


class _Parted:
    """A tree taken apart: what a transform takes, in a list, and the rest, which is constant."""

    def __init__(self, tree: Any) -> None:
        leaves, self._structure = jax.tree.flatten(tree, is_leaf=_is_object)
        self._is_array = [_is_array(leaf) for leaf in leaves]
        self._rest = [
            None if is_array else leaf for is_array, leaf in zip(self._is_array, leaves, strict=True)
        ]
        self.arrays = [leaf for is_array, leaf in zip(self._is_array, leaves, strict=True) if is_array]

    def joined(self, arrays: Sequence[Any]) -> Any:
        """Returns the tree with other arrays."""
        new = iter(arrays)
        pairs = zip(self._is_array, self._rest, strict=True)
        return self._structure.unflatten([next(new) if is_array else rest for is_array, rest in pairs])


def _is_object(leaf: Any) -> bool:
    return isinstance(leaf, Tracked)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | Tracked)


def _masks(arrays: list[Any]) -> list[Any]:
    return [masks.mask_of(array) for array in arrays]


def _is_traced(tree: Any) -> bool:
    objects = jax.tree.leaves(tree, is_leaf=_is_object)
    leaves = [jax.tree.leaves(nnx.state(one)) if isinstance(one, nnx.Pytree) else [one] for one in objects]
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(leaves))


def _waits_for_weights(module: Any) -> bool:
    return module is not None and any(
        getattr(one, "built", True) is False for _, one in nnx.iter_modules(module)
    )


def output_size(f: Callable[..., Any], module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Returns how many elements the arrays have that a call would return; nothing is computed or changed."""
    parted = _Parted((args, kwargs))
    graphdef, state = nnx.split((module, parted.arrays))

    def arrays_of(state: Any) -> list[Any]:
        copy, arrays = nnx.merge(graphdef, state)
        args, kwargs = parted.joined(arrays)
        with _within(), collecting_losses():
            return _Parted(f(copy, *args, **kwargs)).arrays

    return sum(array.size for array in jax.tree.leaves(jax.eval_shape(arrays_of, state)))
