"""What a graph is fed with: any nesting of arrays that its inputs can be found in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.symbolic import Symbolic
from easyflax.masks import attach_masks, mask_of

__all__ = ["InputNest", "flat_inputs"]


class InputNest:
    """The inputs of a graph, as they were stated.

    Args:
        inputs: a symbolic value, or a list, tuple or dict of them.

    Raises:
        TypeError: there is something else among them.
        ValueError: there is none, or one twice.

    Attributes:
        shapes: in order, None for free axes; of a dict in the order of its sorted keys.
        dtypes: likewise.
        names: set by the graph: by which a dict is matched.
    """

    def __init__(self, inputs: Any) -> None:
        values = flat_inputs(inputs)
        self.shapes = [value.shape for value in values]
        self.dtypes = [jax.dtypes.canonicalize_dtype(value.dtype) for value in values]
        self.names: list[str] = []
        self._keys = sorted(inputs) if isinstance(inputs, dict) else None

    def arrays_of(self, feed: Any) -> list[Any]:
        """Returns the arrays for `values`.

        Args:
            feed: in the nesting of the inputs; or a dict by the names of the inputs; lists and tuples are
                equal.

        Raises:
            ValueError: an array is missing, or its shape does not fit.
        """
        found = self._found(feed)
        stated = zip(self.shapes, self.dtypes, self.names, strict=True)
        return [_fitting(array, *each) for array, each in zip(found, stated, strict=True)]

    def _found(self, feed: Any) -> Sequence[Any]:
        if isinstance(feed, dict):
            names = self.names if self._keys is None else self._keys
            missing = [name for name in names if name not in feed]
            if missing:
                raise ValueError(
                    f"The model was called on a dict with {sorted(feed)}, expected {names}: {missing[0]!r} "
                    "is missing. Name the arrays as the inputs."
                )
            return [feed[name] for name in names]
        leaves = jax.tree.leaves(feed, is_leaf=lambda leaf: leaf is None)
        if len(leaves) != len(self.shapes):
            raise ValueError(
                f"The model was called on {len(leaves)} arrays, expected {len(self.shapes)}: {self.names}. "
                "Pass them in one list in this order, or in a dict by name."
            )
        return leaves


def flat_inputs(inputs: Any) -> list[Symbolic]:
    """Returns the symbolic values of a nesting.

    Raises:
        TypeError: there is something else among them.
        ValueError: there is none, or one twice.
    """
    values = jax.tree.leaves(inputs, is_leaf=lambda leaf: leaf is None or isinstance(leaf, Symbolic))
    for value in values:
        if not isinstance(value, Symbolic):
            raise TypeError(
                f"Model: got {type(value).__name__} among the inputs, expected values that ef.Input(shape) "
                "returns, or inner ones of another model."
            )
    if len({id(value) for value in values}) < max(len(values), 1):
        raise ValueError(
            f"Model: got {len(values)} inputs, expected at least one, and none twice. Pass what "
            "ef.Input(shape) returns."
        )
    return values


def _fitting(array: Any, shape: tuple[int | None, ...], dtype: Any, name: str) -> Any:
    """Returns `array` in a dtype, and with as many axes as `shape`, if it differs by a last one of size 1."""
    given = array
    array = jnp.asarray(array)
    if array.ndim == len(shape) - 1 and shape[-1] == 1:
        array = array[..., None]
    elif array.ndim == len(shape) + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    fits = array.ndim == len(shape) and all(
        size is None or size == got for size, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"The model was called on an array of shape {array.shape} for the input '{name}', expected "
            f"{shape}, where None is any size. Reshape the array, or change the shape of ef.Input."
        )
    array = array if array.dtype == dtype else array.astype(dtype)
    attach_masks(array, mask_of(given))
    return array
