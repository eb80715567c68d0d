"""Builds the same thing here and in Flax, and compares the two to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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


# -- layers that are made with `rngs`, and called with one array


class Case(NamedTuple):
    """A layer, how it is made, and what it is called with."""

    layer: str
    args: tuple[Any, ...]
    shape: tuple[int, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    call: Mapping[str, Any] = MappingProxyType({})
    dtype: Any = jnp.float32

    def __str__(self) -> str:
        given = [
            *map(str, self.args),
            *(f"{k}={_short(v)}" for k, v in {**self.options, **self.call}.items()),
        ]
        return (
            f"{self.layer}({','.join(given)})-{'x'.join(map(str, self.shape))}-{jnp.dtype(self.dtype).name}"
        )

    def make(self, lib: Any) -> Any:
        """The layer, of `nnx` or of Flax."""
        return getattr(lib, self.layer)(*self.args, **self.options, rngs=lib.Rngs(7))

    def inputs(self) -> jax.Array:
        """Normal values of the shape and dtype."""
        return jnp.asarray(np.random.default_rng(0).normal(size=self.shape).astype(np.float32), self.dtype)

    def loss(self, layer: Any, x: jax.Array) -> jax.Array:
        """A scalar in which every entry of the input and of the output has another weight."""
        weights = jnp.cos(jnp.arange(x.size)).reshape(x.shape).astype(x.dtype)
        y = layer(x * weights, **self.call).astype(jnp.float32)
        return (y * jnp.sin(jnp.arange(y.size)).reshape(y.shape)).sum()


def _short(value: Any) -> str:
    return getattr(value, "__name__", None) or (str(value.shape) if hasattr(value, "shape") else str(value))


def assert_same_outputs(case: Case) -> None:
    """Asserts equal parameters and, for two calls, equal outputs and states after."""
    ours, theirs = make_both(case.make)
    assert_same_state(ours, theirs)
    x = case.inputs()
    for _ in range(2):  # running averages and random streams move on
        assert_same(ours(x, **case.call), theirs(x, **case.call))
        assert_same_state(ours, theirs)


def assert_same_gradients(case: Case) -> None:
    """Asserts equal gradients with respect to parameters and input, compiled as they are in training."""
    ours, theirs = make_both(case.make)
    x = case.inputs()
    grads, dx = nnx.jit(nnx.grad(case.loss, argnums=(0, 1)))(ours, x)
    flax_grads, flax_dx = flax_nnx.jit(flax_nnx.grad(case.loss, argnums=(0, 1)))(theirs, x)
    assert_same(dx, flax_dx)
    assert_same_state(grads, flax_grads)


def assert_same_jitted_outputs(case: Case) -> None:
    """Asserts equal outputs and states after of a jitted call."""
    ours, theirs = make_both(case.make)
    x = case.inputs()
    y = nnx.jit(lambda layer, x: layer(x, **case.call))(ours, x)
    flax_y = flax_nnx.jit(lambda layer, x: layer(x, **case.call))(theirs, x)
    assert_same(y, flax_y)
    assert_same_state(ours, theirs)
