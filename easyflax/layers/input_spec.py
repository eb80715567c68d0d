"""What a layer of one's own states about its inputs, to be checked at each call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax.nnx.core.naming import describe
from easyflax.serialization import Configured

__all__ = ["InputSpec", "check_inputs"]


class InputSpec(Configured):
    """States rank, shape and dtype of an input; a layer has it, or a list or dict of them, as `input_spec`.

    Args:
        dtype: the name of the dtype.
        shape: with the batch axis; None for axes of any size.
        ndim: the number of axes.
        max_ndim: the largest number of axes.
        min_ndim: the smallest number of axes.
        axes: sizes by axis.
        allow_last_axis_squeeze: whether a last axis of size 1 may be missing, or there, besides `shape`.
        name: the key of the input in a dict.
        optional: whether the input may be None.

    Raises:
        TypeError: `axes` has other keys than integers.

    Examples:
        >>> from easyflax.layers import Layer
        >>> class Image(Layer):
        ...     input_spec = InputSpec(ndim=4, axes={-1: 3})
        ...
        ...     def call(self, inputs):
        ...         return inputs
        >>> import jax.numpy as jnp
        >>> Image()(jnp.zeros((2, 8, 8, 3))).shape
        (2, 8, 8, 3)
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: Any = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: Mapping[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ) -> None:
        if axes is not None and not all(isinstance(axis, int) for axis in axes):
            raise TypeError(
                f"InputSpec: axes is {axes!r}, expected a dict with integers as keys, such as {{-1: 3}}."
            )
        self.dtype = None if dtype is None else str(jax.numpy.dtype(dtype))
        self.shape = None if shape is None else tuple(shape)
        self.ndim = ndim if shape is None else len(shape)
        self.max_ndim = max_ndim
        self.min_ndim = min_ndim
        self.axes = dict(axes or {})
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        self.name = name
        self.optional = optional

    def complaint(self, array: Any) -> str | None:
        """Returns what of an array does not fit, as "expected ..."; None if it does."""
        if array is None:
            return None if self.optional else "expected an array"
        shape = tuple(array.shape)
        if self.allow_last_axis_squeeze and self.shape is not None:
            if len(shape) == len(self.shape) + 1 and shape[-1] == 1:
                shape = shape[:-1]
            elif len(shape) == len(self.shape) - 1 and self.shape[-1] == 1:
                shape = (*shape, 1)
        if self.ndim is not None and len(shape) != self.ndim:
            return f"expected {self.ndim} axes"
        if self.max_ndim is not None and len(shape) > self.max_ndim:
            return f"expected at most {self.max_ndim} axes"
        if self.min_ndim is not None and len(shape) < self.min_ndim:
            return f"expected at least {self.min_ndim} axes"
        if self.dtype is not None and str(array.dtype) != self.dtype:
            return f"expected the dtype {self.dtype}"
        sizes = {**dict(enumerate(self.shape or ())), **self.axes}
        for axis, size in sizes.items():
            if size is not None and shape[axis] is not None and shape[axis] != size:
                return f"expected size {size} of axis {axis}"
        return None


def check_inputs(layer: nnx.Module, specs: Any, inputs: Any) -> None:
    """Checks the first argument of a call against the `input_spec` of a layer.

    Raises:
        ValueError: an array does not fit, or their number differs.
    """
    if isinstance(specs, dict) and isinstance(inputs, dict):
        pairs = [(spec, inputs.get(name)) for name, spec in specs.items()]
    else:
        stated = jax.tree.leaves(specs, is_leaf=lambda leaf: leaf is None)
        given = jax.tree.leaves(inputs, is_leaf=lambda leaf: leaf is None)
        if len(stated) != len(given):
            raise ValueError(
                f"{describe(layer)}: got {len(given)} inputs, expected {len(stated)} as its input_spec says. "
                "Pass them in one list."
            )
        pairs = list(zip(stated, given, strict=True))
    for spec, array in pairs:
        if spec is not None and (complaint := spec.complaint(array)) is not None:
            got = None if array is None else f"shape {tuple(array.shape)}, dtype {array.dtype}"
            raise ValueError(
                f"{describe(layer)}: got an input of {got}, {complaint} as its input_spec says. Reshape or "
                "cast the input, or change the input_spec."
            )
