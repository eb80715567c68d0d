"""Conversions, indexing, loops and branches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

import easyflax.nnx as nnx
from easyflax.dispatch import find_symbolic, symbolic_aware
from easyflax.ops.table import as_array

NAMES = (
    *(
        "associative_scan",
        "cast",
        "cond",
        "convert_to_numpy",
        "convert_to_tensor",
        "custom_gradient",
        "dtype",
    ),
    *(
        "fori_loop",
        "is_tensor",
        "map",
        "ndim",
        "saturate_cast",
        "scan",
        "scatter",
        "scatter_update",
        "shape",
        "size",
    ),
    *(
        "slice",
        "slice_update",
        "stop_gradient",
        "switch",
        "unstack",
        "vectorize",
        "vectorized_map",
        "while_loop",
    ),
)


@symbolic_aware
def cast(x: ArrayLike, dtype: DTypeLike) -> jax.Array:
    """Returns `x` in another dtype."""
    return jnp.asarray(x).astype(dtype)


@symbolic_aware
def saturate_cast(x: ArrayLike, dtype: DTypeLike) -> jax.Array:
    """Returns `x` in another dtype, clipped to what that dtype can hold."""
    info: Any = jnp.iinfo(dtype) if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo(dtype)
    return jnp.clip(jnp.asarray(x), info.min, info.max).astype(dtype)


def convert_to_tensor(x: Any, dtype: DTypeLike | None = None) -> Any:
    """Returns `x` as a jax array; a symbolic value as it is."""
    if find_symbolic((x,)) is not None:
        return x if dtype is None else cast(x, dtype)
    return jnp.asarray(x, dtype)


def convert_to_numpy(x: ArrayLike) -> np.ndarray:
    """Returns `x` as a NumPy array of its own."""
    return np.array(x[...] if isinstance(x, nnx.Variable) else x)


def is_tensor(x: Any) -> bool:
    """Returns whether `x` is a jax array."""
    return isinstance(x, jax.Array)


def shape(x: Any) -> tuple[int | None, ...]:
    """Returns the sizes of the axes, None for the free ones of a symbolic value."""
    return tuple(as_array(x).shape)


def ndim(x: Any) -> int:
    """Returns the number of axes."""
    return len(shape(x))


def size(x: Any) -> int | None:
    """Returns the number of entries; None where an axis is free."""
    sizes = shape(x)
    return None if None in sizes else math.prod(one for one in sizes if one is not None)


def dtype(x: Any) -> str:
    """Returns the name of the dtype."""
    return jnp.dtype(x.dtype if hasattr(x, "dtype") else jnp.asarray(x).dtype).name


@symbolic_aware
def stop_gradient(variable: Any) -> Any:
    """Returns the value, through which no gradient flows."""
    return jax.lax.stop_gradient(variable[...] if isinstance(variable, nnx.Variable) else variable)


@symbolic_aware
def unstack(x: ArrayLike, num: int | None = None, axis: int = 0) -> list[jax.Array]:
    """Returns the parts of `x` along an axis.

    Raises:
        ValueError: there are not `num`.
    """
    x = jnp.asarray(x)
    if num is not None and num != x.shape[axis]:
        raise ValueError(
            f"unstack was given num={num} for an array of shape {x.shape}, expected {x.shape[axis]}, the "
            f"size of axis {axis}. Leave num out."
        )
    return [jax.lax.index_in_dim(x, index, axis, keepdims=False) for index in range(x.shape[axis])]


@symbolic_aware
def slice(inputs: ArrayLike, start_indices: Any, shape: Sequence[int]) -> jax.Array:
    """Returns the block of that shape that begins at `start_indices`; -1 takes what is left of an axis."""
    inputs = jnp.asarray(inputs)
    sizes = [
        full - start if size == -1 else size
        for full, start, size in zip(inputs.shape, start_indices, shape, strict=True)
    ]
    return jax.lax.dynamic_slice(inputs, start_indices, sizes)


@symbolic_aware
def slice_update(inputs: ArrayLike, start_indices: Any, updates: ArrayLike) -> jax.Array:
    """Returns `inputs` with the block that begins at `start_indices` replaced by `updates`."""
    return jax.lax.dynamic_update_slice(jnp.asarray(inputs), jnp.asarray(updates), start_indices)


@symbolic_aware
def scatter(indices: ArrayLike, values: ArrayLike, shape: Sequence[int]) -> jax.Array:
    """Returns zeros of that shape with `values` added at `indices`, `(..., axes)`."""
    values = jnp.asarray(values)
    return jnp.zeros(tuple(shape), values.dtype).at[_places(indices)].add(values)


@symbolic_aware
def scatter_update(
    inputs: ArrayLike, indices: ArrayLike, updates: ArrayLike, reduction: str | None = None
) -> jax.Array:
    """Returns `inputs` with `updates` put at `indices`, `(n, axes)`, or brought in by `reduction`.

    Raises:
        ValueError: `reduction` is not None, "add", "max", "min" or "mul".
    """
    ways = {None: "set", "add": "add", "max": "max", "min": "min", "mul": "multiply"}
    if reduction not in ways:
        raise ValueError(
            f"scatter_update was given reduction={reduction!r}, expected one of {list(ways)}. Pass one of "
            "these."
        )
    return getattr(jnp.asarray(inputs).at[_places(indices)], ways[reduction])(as_array(updates))


def _places(indices: ArrayLike) -> tuple[jax.Array, ...]:
    return tuple(jnp.moveaxis(jnp.asarray(indices), -1, 0))


@symbolic_aware
def vectorized_map(function: Callable[..., Any], elements: Any) -> Any:
    """Returns `function` of each entry along the first axis, computed at once."""
    return jax.vmap(function)(elements)


@symbolic_aware
def map(f: Callable[..., Any], xs: Any) -> Any:
    """Returns `f` of each entry along the first axis, computed one after the other."""
    return jax.lax.map(f, xs)


def vectorize(
    pyfunc: Callable[..., Any], *, excluded: Any = None, signature: str | None = None
) -> Callable[..., Any]:
    """Returns `pyfunc` mapped over the leading axes of its arguments, as `jax.numpy.vectorize`."""
    return symbolic_aware(jnp.vectorize(pyfunc, excluded=excluded or frozenset(), signature=signature))


@symbolic_aware
def scan(
    f: Callable[..., Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """Returns the last carry and the stacked outputs of `carry, y = f(carry, x)`, as `jax.lax.scan`."""
    return jax.lax.scan(f, init, xs, length, reverse, unroll)


@symbolic_aware
def associative_scan(f: Callable[..., Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Returns the running results of an associative `f`, as `jax.lax.associative_scan`."""
    return jax.lax.associative_scan(f, elems, reverse, axis)


@symbolic_aware
def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """Returns `true_fn()` or `false_fn()`, as `pred` says."""
    return jax.lax.cond(pred, true_fn, false_fn)


@symbolic_aware
def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """Returns what the branch of that index returns for `operands`."""
    return jax.lax.switch(index, branches, *operands)


@symbolic_aware
def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """Returns the last value of `value = body_fun(i, value)` for i from `lower` to `upper - 1`."""
    return jax.lax.fori_loop(lower, upper, body_fun, init_val)


@symbolic_aware
def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    """Returns the last values of `values = body(*values)`, repeated while `cond(*values)` holds.

    Args:
        cond: returns a bool.
        body: returns the next values, in the form of `loop_vars`.
        loop_vars: one value, or a tuple or list of several.
        maximum_iterations: ends the loop after so many.
    """
    is_several = isinstance(loop_vars, (tuple, list))

    def goes_on(carry: tuple[Any, Any]) -> Any:
        count, values = carry
        holds = jnp.asarray(cond(*values)).reshape(())
        return holds if maximum_iterations is None else holds & (count < maximum_iterations)

    def advance(carry: tuple[Any, Any]) -> tuple[Any, Any]:
        count, values = carry
        new = body(*values)
        return count + 1, tuple(new) if is_several else (new,)

    start = tuple(loop_vars) if is_several else (loop_vars,)
    _, values = jax.lax.while_loop(goes_on, advance, (0, start))
    return values if is_several else values[0]


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function with a gradient of its own: `f` returns its value and how gradients pass."""
    return jax.custom_gradient(f)
