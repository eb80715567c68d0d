"""Any pytree as a flat dict of named arrays, and back; typed PRNG keys travel as their integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["ArraySpec", "flatten", "from_plain", "is_key", "mismatches", "spec_of", "to_plain", "unflatten"]


class ArraySpec(NamedTuple):
    """What must agree between a saved array and the one that it is restored into."""

    shape: tuple[int, ...]
    dtype: str
    prng: str | None = None

    def __str__(self) -> str:
        dtype = self.dtype if self.prng is None else f"key<{self.prng}>"
        return f"{dtype}{list(self.shape)}"


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the arrays of `tree` under their paths, joined by "/".

    Raises:
        TypeError: a leaf is no array.
        ValueError: two leaves have one path.
    """
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)):
            raise TypeError(
                f"{name!r} is {type(leaf).__name__}, expected an array. Turn it into one, or save it as "
                "metadata."
            )
        if name in named:
            raise ValueError(
                f"Two arrays are named {name!r}, expected one for each name. Rename one of them."
            )
        named[name] = leaf
    return named


def unflatten(template: Any, arrays: Mapping[str, Any]) -> Any:
    """Returns a tree of the template's structure with the arrays that have its leaves' names."""
    return jax.tree.unflatten(jax.tree.structure(template), [arrays[name] for name in flatten(template)])


def spec_of(leaf: Any) -> ArraySpec:
    """Returns what a leaf looks like when it is saved."""
    prng = str(jax.random.key_impl(leaf)) if is_key(leaf) else None
    plain = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    return ArraySpec(tuple(plain.shape), str(plain.dtype), prng)


def to_plain(leaf: Any) -> Any:
    """Returns a leaf as an array of numbers, on the same devices."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def from_plain(array: Any, spec: ArraySpec) -> Any:
    """Returns the leaf that `to_plain` was given."""
    return array if spec.prng is None else jax.random.wrap_key_data(array, impl=spec.prng)


def is_key(leaf: Any) -> bool:
    """Returns whether a leaf is an array of typed PRNG keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def mismatches(saved: Mapping[str, ArraySpec], wanted: Mapping[str, ArraySpec]) -> list[str]:
    """Returns in words how the saved arrays differ from the wanted ones; empty where they agree."""
    missing = [f"{name!r} is missing" for name in wanted if name not in saved]
    unknown = [f"{name!r} is not part of the model" for name in saved if name not in wanted]
    different = [
        f"{name!r} is {saved[name]}, not {spec}"
        for name, spec in wanted.items()
        if name in saved and saved[name] != spec
    ]
    return different + missing + unknown
