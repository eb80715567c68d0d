"""Functions of NumPy's kind: arithmetic, reductions, shapes, and arrays that begin with a value."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from easyflax.dispatch import symbolic_aware
from easyflax.ops.table import as_array, from_table

_FUNCTIONS = from_table(
    jnp,
    "jax.numpy",
    """
    abs(x)
    absolute(x)
    add(x1, x2)
    all(x, axis=None, keepdims=False)
    allclose(x1, x2, rtol=1e-05, atol=1e-08, equal_nan=False)
    amax(x, axis=None, keepdims=False)
    amin(x, axis=None, keepdims=False)
    angle(x)
    any(x, axis=None, keepdims=False)
    append(x1, x2, axis=None)
    arccos(x)
    arccosh(x)
    arcsin(x)
    arcsinh(x)
    arctan(x)
    arctan2(x1, x2)
    arctanh(x)
    argmax(x, axis=None, keepdims=False)
    argmin(x, axis=None, keepdims=False)
    argpartition(x, kth, axis=-1)
    argsort(x, axis=-1)
    array_split(x, indices_or_sections, axis=0)
    average(x, axis=None, weights=None)
    bartlett(x)
    bitwise_and(x, y)
    bitwise_invert(x)
    bitwise_left_shift(x, y)
    bitwise_not(x)
    bitwise_or(x, y)
    bitwise_right_shift(x, y)
    bitwise_xor(x, y)
    blackman(x)
    broadcast_to(x, shape)
    cbrt(x)
    clip(x, x_min, x_max)
    concatenate(xs, axis=0)
    conj(x)
    conjugate(x)
    copy(x)
    corrcoef(x)
    correlate(x1, x2, mode="valid")
    cos(x)
    cosh(x)
    count_nonzero(x, axis=None)
    cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None)
    cumprod(x, axis=None, dtype=None)
    cumsum(x, axis=None, dtype=None)
    deg2rad(x)
    diag(x, k=0)
    diagflat(x, k=0)
    diagonal(x, offset=0, axis1=0, axis2=1)
    diff(a, n=1, axis=-1)
    digitize(x, bins)
    divide(x1, x2)
    dot(x1, x2)
    dsplit(x, indices_or_sections)
    dstack(xs)
    equal(x1, x2)
    exp(x)
    exp2(x)
    expand_dims(x, axis)
    expm1(x)
    fabs(x)
    flip(x, axis=None)
    fliplr(x)
    flipud(x)
    floor_divide(x1, x2)
    fmax(x1, x2)
    fmin(x1, x2)
    fmod(x1, x2)
    gcd(x1, x2)
    greater(x1, x2)
    greater_equal(x1, x2)
    hamming(x)
    hanning(x)
    heaviside(x1, x2)
    histogram(x, bins=10, range=None)
    hsplit(x, indices_or_sections)
    hstack(xs)
    hypot(x1, x2)
    i0(x)
    imag(x)
    inner(x1, x2)
    isclose(x1, x2, rtol=1e-05, atol=1e-08, equal_nan=False)
    isfinite(x)
    isin(x1, x2, assume_unique=False, invert=False)
    isinf(x)
    isnan(x)
    isneginf(x)
    isposinf(x)
    isreal(x)
    kaiser(x, beta)
    kron(x1, x2)
    lcm(x1, x2)
    ldexp(x1, x2)
    left_shift(x, y)
    less(x1, x2)
    less_equal(x1, x2)
    log(x)
    log10(x)
    log1p(x)
    log2(x)
    logaddexp(x1, x2)
    logaddexp2(x1, x2)
    logical_and(x1, x2)
    logical_not(x)
    logical_or(x1, x2)
    logical_xor(x1, x2)
    matmul(x1, x2)
    max(x, axis=None, keepdims=False, initial=None)
    maximum(x1, x2)
    mean(x, axis=None, keepdims=False)
    median(x, axis=None, keepdims=False)
    min(x, axis=None, keepdims=False, initial=None)
    minimum(x1, x2)
    mod(x1, x2)
    moveaxis(x, source, destination)
    multiply(x1, x2)
    nan_to_num(x, nan=0.0, posinf=None, neginf=None)
    nanargmax(x, axis=None, keepdims=False)
    nanargmin(x, axis=None, keepdims=False)
    nancumprod(x, axis=None, dtype=None)
    nancumsum(x, axis=None, dtype=None)
    nanmax(x, axis=None, keepdims=False)
    nanmean(x, axis=None, keepdims=False)
    nanmedian(x, axis=None, keepdims=False)
    nanmin(x, axis=None, keepdims=False)
    nanpercentile(x, q, axis=None, method="linear", keepdims=False)
    nanprod(x, axis=None, keepdims=False)
    nanquantile(x, q, axis=None, method="linear", keepdims=False)
    nanstd(x, axis=None, keepdims=False)
    nansum(x, axis=None, keepdims=False)
    nanvar(x, axis=None, keepdims=False)
    negative(x)
    nextafter(x1, x2)
    nonzero(x)
    not_equal(x1, x2)
    ones_like(x, dtype=None)
    outer(x1, x2)
    percentile(x, q, axis=None, method="linear", keepdims=False)
    power(x1, x2)
    prod(x, axis=None, keepdims=False, dtype=None)
    ptp(x, axis=None, keepdims=False)
    quantile(x, q, axis=None, method="linear", keepdims=False)
    rad2deg(x)
    ravel(x)
    real(x)
    reciprocal(x)
    repeat(x, repeats, axis=None)
    reshape(x, newshape)
    right_shift(x, y)
    roll(x, shift, axis=None)
    rot90(array, k=1, axes=(0,1))
    round(x, decimals=0)
    searchsorted(sorted_sequence, values, side="left")
    select(condlist, choicelist, default=0)
    sign(x)
    signbit(x)
    sin(x)
    sinc(x)
    sinh(x)
    sort(x, axis=-1)
    split(x, indices_or_sections, axis=0)
    sqrt(x)
    square(x)
    squeeze(x, axis=None)
    stack(x, axis=0)
    std(x, axis=None, keepdims=False)
    subtract(x1, x2)
    sum(x, axis=None, keepdims=False)
    swapaxes(x, axis1, axis2)
    take(x, indices, axis=None)
    take_along_axis(x, indices, axis=None)
    tan(x)
    tanh(x)
    tensordot(x1, x2, axes=2)
    tile(x, repeats)
    trace(x, offset=0, axis1=0, axis2=1)
    transpose(x, axes=None)
    trapezoid(y, x=None, dx=1.0, axis=-1)
    tril(x, k=0)
    triu(x, k=0)
    true_divide(x1, x2)
    trunc(x)
    unravel_index(indices, shape)
    vander(x, N=None, increasing=False)
    var(x, axis=None, keepdims=False)
    vdot(x1, x2)
    vsplit(x, indices_or_sections)
    vstack(xs)
    zeros_like(x, dtype=None)
    """,
)
globals().update(_FUNCTIONS)


def _floating(dtype: DTypeLike | None) -> DTypeLike:
    return jnp.float32 if dtype is None else dtype


def arange(start: Any, stop: Any = None, step: Any = None, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns evenly spaced values, `stop` left out; from 0 to `start` when it is the only one."""
    start, stop = (0, start) if stop is None else (start, stop)
    return jnp.arange(start, stop, 1 if step is None else step, dtype=dtype)


@symbolic_aware
def array(x: ArrayLike, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns `x` as a jax array."""
    return jnp.asarray(x, dtype)


@symbolic_aware
def bincount(x: ArrayLike, weights: ArrayLike | None = None, minlength: int = 0) -> jax.Array:
    """Returns how often each integer from 0 on occurs in `x`, or along its last axis if it has two."""
    ids = jnp.asarray(x)
    length = builtins.max(int(ids.max(initial=-1)) + 1, minlength)
    counted = None if weights is None else jnp.asarray(weights)
    if ids.ndim == 1:
        return jnp.bincount(ids, counted, length=length)
    in_axes = (0, None if counted is None else 0)
    return jax.vmap(lambda row, weight: jnp.bincount(row, weight, length=length), in_axes)(ids, counted)


@symbolic_aware
def ceil(x: ArrayLike) -> jax.Array:
    """Returns the next integer above, as a float."""
    return jnp.ceil(_as_floats(x))


@symbolic_aware
def floor(x: ArrayLike) -> jax.Array:
    """Returns the next integer below, as a float."""
    return jnp.floor(_as_floats(x))


def _as_floats(x: ArrayLike) -> jax.Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)


@symbolic_aware
def divide_no_nan(x1: ArrayLike, x2: ArrayLike) -> jax.Array:
    """Returns `x1 / x2`, and 0 where `x2` is 0."""
    x1, x2 = as_array(x1), as_array(x2)
    return jnp.where(jnp.equal(x2, 0), 0, jnp.divide(x1, jnp.where(jnp.equal(x2, 0), 1, x2)))


@symbolic_aware
def einsum(subscripts: str, *operands: ArrayLike, **kwargs: Any) -> jax.Array:
    """Returns the sum of products that `subscripts` names, as `jax.numpy.einsum`."""
    return jnp.einsum(subscripts, *map(as_array, operands), **kwargs)


def empty(shape: Sequence[int], dtype: DTypeLike | None = None) -> jax.Array:
    """Returns an array of zeros: jax has no arrays without values."""
    return jnp.empty(shape, _floating(dtype))


@symbolic_aware
def empty_like(x: ArrayLike, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns an array of zeros of the shape of `x`."""
    return jnp.empty_like(as_array(x), dtype)


def eye(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns a matrix of `N` rows and `M` columns with ones on its `k`-th diagonal."""
    return jnp.eye(N, M, k, _floating(dtype))


def full(shape: Sequence[int], fill_value: ArrayLike, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns an array of one value, in float32 unless `dtype` says otherwise."""
    return jnp.full(shape, as_array(fill_value), _floating(dtype))


@symbolic_aware
def full_like(x: ArrayLike, fill_value: ArrayLike, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns an array of one value of the shape of `x`."""
    return jnp.full_like(as_array(x), as_array(fill_value), dtype)


@symbolic_aware
def get_item(x: Any, key: Any) -> jax.Array:
    """Returns `x[key]`."""
    return as_array(x)[key]


def identity(n: int, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns the identity matrix."""
    return jnp.identity(n, _floating(dtype))


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DTypeLike | None = None,
    axis: int = 0,
) -> Any:
    """Returns `num` evenly spaced values, as `jax.numpy.linspace`."""
    return jnp.linspace(as_array(start), as_array(stop), num, endpoint, retstep, dtype, axis)


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10,
    dtype: Any = None,
    axis: int = 0,
) -> jax.Array:
    """Returns powers of `base` with evenly spaced exponents, as `jax.numpy.logspace`."""
    return jnp.logspace(as_array(start), as_array(stop), num, endpoint, base, dtype, axis)


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> jax.Array:
    """Returns values of one ratio to the next, as `jax.numpy.geomspace`."""
    return jnp.geomspace(as_array(start), as_array(stop), num, endpoint, dtype, axis)


@symbolic_aware
def meshgrid(*x: ArrayLike, indexing: str = "xy") -> list[jax.Array]:
    """Returns the coordinates of a grid, one array an axis, as `jax.numpy.meshgrid`."""
    return list(jnp.meshgrid(*map(as_array, x), indexing=indexing))


def ones(shape: Sequence[int], dtype: DTypeLike | None = None) -> jax.Array:
    """Returns an array of ones, in float32 unless `dtype` says otherwise."""
    return jnp.ones(shape, _floating(dtype))


@symbolic_aware
def pad(x: ArrayLike, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> jax.Array:
    """Returns `x` with entries added before and after those of each axis, as `jax.numpy.pad`.

    Raises:
        ValueError: there are `constant_values` but another mode.
    """
    if constant_values is None:
        return jnp.pad(as_array(x), pad_width, mode)
    if mode != "constant":
        raise ValueError(
            f"pad was given constant_values={constant_values} with mode={mode!r}, expected them with "
            "'constant' only. Leave one of the two out."
        )
    return jnp.pad(as_array(x), pad_width, mode, constant_values=constant_values)


def tri(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns a matrix with ones on and below its `k`-th diagonal."""
    return jnp.tri(N, M, k, _floating(dtype))


@symbolic_aware
def unique(
    x: ArrayLike,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Returns the different entries of `x` in order, as `jax.numpy.unique`; under jit with `size`.

    Raises:
        ValueError: `sorted` is False: jax sorts them.
    """
    if not sorted:
        raise ValueError(
            "unique was given sorted=False, expected True: jax finds the entries by sorting. Leave it out."
        )
    return jnp.unique(
        as_array(x), return_index, return_inverse, return_counts, axis, size=size, fill_value=fill_value
    )


@symbolic_aware
def view(x: ArrayLike, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns the bits of `x` read in another dtype."""
    return jnp.asarray(x).view(dtype)


@symbolic_aware
def where(condition: ArrayLike, x1: ArrayLike | None = None, x2: ArrayLike | None = None) -> Any:
    """Returns `x1` where `condition` is true, else `x2`; without both, the places where it is true."""
    if x1 is None and x2 is None:
        return jnp.where(as_array(condition))
    return jnp.where(as_array(condition), as_array(x1), as_array(x2))


def zeros(shape: Sequence[int], dtype: DTypeLike | None = None) -> jax.Array:
    """Returns an array of zeros, in float32 unless `dtype` says otherwise."""
    return jnp.zeros(shape, _floating(dtype))


NAMES = (
    *_FUNCTIONS,
    *(
        "arange",
        "array",
        "bincount",
        "ceil",
        "divide_no_nan",
        "einsum",
        "empty",
        "empty_like",
        "eye",
        "floor",
        "full",
    ),
    *(
        "full_like",
        "geomspace",
        "get_item",
        "identity",
        "linspace",
        "logspace",
        "meshgrid",
        "ones",
        "pad",
        "tri",
    ),
    *("unique", "view", "where", "zeros"),
)
