"""Masks that go along with arrays, from the layer that returns one to the layer that is called on it.

A layer whose `compute_mask` says so attaches a mask to what it returns. The next one finds it there, also in
the `call` of a layer or model of one's own and under a transform. What a function of arrays returns has none.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx

__all__ = ["attach_masks", "mask_of", "masks_by_name", "masks_of", "with_masks"]

# By the identity of the array, for as long as it lives.
_masks: dict[int, tuple[weakref.ref[Any], Any]] = {}


def mask_of(array: Any) -> Any:
    """Returns the mask of an array, or None."""
    found = _masks.get(id(array))
    return found[1] if found is not None and found[0]() is array else None


def masks_of(tree: Any) -> Any:
    """Returns the masks of arrays in their nesting, None for arrays without; None if none has one."""
    if not _masks:
        return None
    masks = jax.tree.map(mask_of, tree, is_leaf=_is_leaf)
    return masks if jax.tree.leaves(masks) else None


def with_masks(tree: Any, masks: Any) -> Any:
    """Returns copies of arrays with masks attached, or the arrays themselves without masks."""
    if masks is None:
        return tree
    tree = jax.tree.map(jnp.array, tree)
    attach_masks(tree, masks)
    return tree


def attach_masks(tree: Any, masks: Any) -> None:
    """Attaches masks to arrays, both in the same order; an array that has a mask keeps it."""
    if masks is None:
        return
    arrays = jax.tree.leaves(tree, is_leaf=_is_leaf)
    for array, mask in zip(arrays, jax.tree.leaves(masks, is_leaf=_is_leaf), strict=False):
        if mask is not None and isinstance(array, jax.Array) and mask_of(array) is None:
            _masks[id(array)] = weakref.ref(array, partial(_forget, _masks, id(array))), mask


def masks_by_name(
    names: tuple[str, ...], kwargs: dict[str, Any], masks: Any, is_alone: bool
) -> dict[str, Any]:
    """Returns masks of the arguments of a call as further arguments: that of the only array is `mask`; where
    there are several, that of an argument `value` is `value_mask`, as in Keras.

    Args:
        names: the parameters of the method `call`.
        kwargs: what is passed by name; a mask among it goes before.
        masks: `(args, kwargs)` with masks in place of arrays.
        is_alone: whether only one argument holds arrays.
    """
    arg_masks, kwarg_masks = masks
    by_name = {**dict(zip(names, arg_masks, strict=False)), **kwarg_masks}
    if is_alone:
        found = {"mask": next(iter(by_name.values()), None)}
    else:
        found = {f"{name}_mask": mask for name, mask in by_name.items()}
    return {name: mask for name, mask in found.items() if jax.tree.leaves(mask) and kwargs.get(name) is None}


def _forget(masks: dict[int, Any], key: int, _: Any) -> None:
    masks.pop(key, None)


def _is_leaf(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, nnx.Pytree | nnx.Variable)
