"""Turns what users hand over into NumPy arrays the device can take, or says why it cannot.

Done once, before training: afterwards every leaf is a NumPy array of a dtype that JAX keeps as it is, so that
no step converts, wraps or copies anything again.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from easyflax.data.foreign import as_numpy


def to_host_arrays(tree: Any, name: str) -> Any:
    """Returns `tree` with every leaf a NumPy array of a dtype the device has.

    64-bit floats, complex numbers and integers become 32-bit ones (unless `jax_enable_x64` is on); other
    arrays are passed through, JAX arrays on the CPU without a copy.

    Args:
        tree: any nesting of dicts, lists and tuples of arrays, see `as_numpy`.
        name: what the user calls it, such as `"x"`, for the error messages.

    Raises:
        ValueError: a leaf is no array, has no row axis, holds objects or strings, or integers beyond 32 bits.
    """
    try:
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    except ValueError as error:  # keys that cannot be sorted, of several types
        raise ValueError(
            f"{name} is a dict whose keys cannot be compared, expected keys of one type. Name the arrays by "
            f"strings."
        ) from error
    return structure.unflatten(to_host_array(leaf, leaf_name(name, path)) for path, leaf in leaves)


def leaf_name(name: str, path: tuple[Any, ...]) -> str:
    """Returns how a user would write the leaf at `path`, as in `x['left'][0]`."""
    return name + jax.tree_util.keystr(path)


def named_leaves(tree: Any, name: str) -> list[tuple[str, np.ndarray]]:
    """Returns the leaves of `tree` with their names."""
    return [(leaf_name(name, path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def to_host_array(leaf: Any, name: str) -> np.ndarray:
    """Returns one leaf as `to_host_arrays` does."""
    array = as_numpy(leaf, name)
    # Strings, bytes, objects, dates: whatever is neither a number nor one of JAX's extra number types.
    if array.dtype.kind in "OSUMmT":
        raise ValueError(
            f"{name} has dtype {array.dtype}, expected numbers. Encode strings and categories as integers, "
            f"and make ragged lists one rectangular array (pad them), before training."
        )
    if array.ndim == 0:
        raise ValueError(
            f"{name} has shape (), expected rows along a first axis. Give one entry a row, as in shape "
            f"(rows, ...)."
        )
    return _narrow(array, name)


def _narrow(array: np.ndarray, name: str) -> np.ndarray:
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype == array.dtype:
        return array
    if array.dtype.kind in "iu" and array.size:
        _check_range(array, np.iinfo(dtype), name)
    return array.astype(dtype)


def _check_range(array: np.ndarray, limits: np.iinfo, name: str) -> None:
    smallest, largest = array.min(), array.max()
    if smallest < limits.min or largest > limits.max:
        raise ValueError(
            f"{name} has dtype {array.dtype} and values from {smallest} to {largest}, expected values that "
            f"fit {limits.dtype}, which is what the device computes with. Map the values to smaller ones "
            f"(ids to 0, 1, 2, ...), or turn jax_enable_x64 on."
        )
