"""Builds the same thing here and in Flax, and compares the two to the bit."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import nnx as flax_nnx

from easyflax import nnx

# What flax keeps in the metadata of every variable for its own modes, which do not exist here.
FLAX_ONLY_METADATA = {"hijax", "ref", "eager_sharding"}


def make_both(make: Any) -> tuple[Any, Any]:
    """`make(nnx)` here and in Flax."""
    return make(nnx), make(flax_nnx)


def bits(value: Any) -> np.ndarray:
    """The value as a NumPy array; keys as their data."""
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value)


def assert_same(ours: Any, theirs: Any, rtol: float = 0.0) -> None:
    """Asserts equal shape, dtype and entries, NaNs included."""
    ours, theirs = bits(ours), bits(theirs)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if rtol:
        largest = np.max(np.abs(theirs.astype(float)), initial=0.0)
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=rtol, atol=rtol * largest)
    else:
        if ours.dtype.kind == "V":  # bfloat16, whose NaNs NumPy would take for unequal
            ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
        np.testing.assert_array_equal(ours, theirs)


def assert_same_state(ours: Any, theirs: Any, rtol: float = 0.0) -> None:
    """Asserts equal paths, kinds of variables, metadata and values of two modules or states."""
    mine = list(nnx.to_flat_state(nnx.state(ours)))
    other = list(flax_nnx.to_flat_state(flax_nnx.state(theirs)))
    assert [path for path, _ in mine] == [path for path, _ in other]
    for (path, leaf), (_, flax_leaf) in zip(mine, other, strict=True):
        if not isinstance(leaf, nnx.Variable):
            assert not isinstance(flax_leaf, flax_nnx.Variable), path
            assert_same(leaf, flax_leaf, rtol)
            continue
        assert type(leaf).__name__ == type(flax_leaf).__name__, path
        metadata = {k: v for k, v in flax_leaf.get_metadata().items() if k not in FLAX_ONLY_METADATA}
        assert leaf.get_metadata() == metadata, path
        assert_same(leaf.get_raw_value(), flax_leaf.get_raw_value(), rtol)


def assert_same_tree(ours: Any, theirs: Any, rtol: float = 0.0) -> None:
    """Asserts equal leaves, in order, of two trees of arrays."""
    mine, other = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(mine) == len(other)
    for leaf, flax_leaf in zip(mine, other, strict=True):
        assert_same(leaf, flax_leaf, rtol)
