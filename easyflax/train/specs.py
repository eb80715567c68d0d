"""Shapes and dtypes of nested arrays, and errors that tell of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["kind", "naming", "num_bytes", "shapes", "specs"]


def specs(tree: Any) -> Any:
    """Returns the nesting of `tree` with shapes, and the dtypes that the device has, at its leaves."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, _on_device(array.dtype)), tree)


def _on_device(dtype: Any) -> Any:
    is_key = jnp.issubdtype(dtype, jax.dtypes.extended)
    return dtype if is_key else jax.dtypes.canonicalize_dtype(dtype)


def kind(tree: Any) -> Any:
    """Returns the nesting, shapes and dtypes of `tree`: what a jitted function is compiled for."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def num_bytes(tree: Any) -> int:
    """Returns how many bytes the arrays of `tree` take on the device."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(specs(tree)))


def shapes(tree: Any) -> Any:
    """Returns the nesting of `tree` with shapes at its leaves."""
    return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)


@contextmanager
def naming(what: str, y: Any, output: Any) -> Iterator[None]:
    """Says for losses and metrics that take one array each, and were given nestings, what the matter is."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if hasattr(y, "shape") and hasattr(output, "shape"):
            raise  # says itself what does not fit
        raise ValueError(
            f"The {what} cannot be computed on targets of shape {shapes(y)} and outputs of shape "
            f"{shapes(output)}, expected one array each. Let the model return one array, or pass a function "
            f"(y_true, y_pred) that takes the nestings."
        ) from error
