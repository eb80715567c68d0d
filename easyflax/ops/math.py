"""Segments, Fourier transforms, special functions and linear algebra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.ops.table import as_array, from_table

NAMES = (
    *(
        "cdist",
        "erf",
        "erfc",
        "erfinv",
        "extract_sequences",
        "fft",
        "fft2",
        "ifft2",
        "in_top_k",
        "irfft",
        "logdet",
    ),
    *(
        "logsumexp",
        "rfft",
        "rsqrt",
        "segment_max",
        "segment_min",
        "segment_prod",
        "segment_sum",
        "slogdet",
        "top_k",
    ),
    *("view_as_complex", "view_as_real"),
)

_SPECIAL = from_table(
    jax.scipy.special,
    "jax.scipy.special",
    """
    erf(x)
    erfc(x)
    erfinv(x)
    logsumexp(x, axis=None, keepdims=False)
    """,
)
globals().update(_SPECIAL)


@symbolic_aware
def rsqrt(x: ArrayLike) -> jax.Array:
    """Returns `1 / sqrt(x)`."""
    x = jnp.asarray(x)
    return jax.lax.rsqrt(x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32))


@symbolic_aware
def top_k(x: ArrayLike, k: int, sorted: bool = True) -> tuple[jax.Array, jax.Array]:
    """Returns the `k` largest entries of the last axis and where they are, the largest first.

    Args:
        x: any shape.
        k: how many.
        sorted: they are sorted in any case.
    """
    del sorted  # no order is no promise
    values, indices = jax.lax.top_k(jnp.asarray(x), k)
    return values, indices


@symbolic_aware
def in_top_k(targets: ArrayLike, predictions: ArrayLike, k: int) -> jax.Array:
    """Returns whether less than `k` predictions of a row are above that of its target."""
    predictions = jnp.asarray(predictions)
    own = jnp.take_along_axis(predictions, jnp.asarray(targets)[..., None], axis=-1)
    return jnp.sum(predictions > own, axis=-1) < k


def _segment(name: str) -> Callable[..., jax.Array]:
    reduce = getattr(jax.ops, name)

    def call(
        data: ArrayLike, segment_ids: ArrayLike, num_segments: int | None = None, sorted: bool = False
    ) -> jax.Array:
        if num_segments is None:
            raise ValueError(
                f"{name} was given no num_segments, expected the number of segments: shapes must be known "
                "without looking at values. Pass num_segments=."
            )
        return reduce(jnp.asarray(data), jnp.asarray(segment_ids), num_segments, indices_are_sorted=sorted)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = (
        f"Returns what `jax.ops.{name}` returns: `data` reduced by the segment of each of its rows."
    )
    return symbolic_aware(call)


segment_max, segment_min, segment_prod, segment_sum = map(
    _segment, ("segment_max", "segment_min", "segment_prod", "segment_sum")
)


@symbolic_aware
def cdist(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """Returns the distance of each row of `x`, `(..., n, d)`, to each row of `y`, `(..., m, d)`."""
    differences = jnp.asarray(x)[..., :, None, :] - jnp.asarray(y)[..., None, :, :]
    return jnp.sqrt(jnp.sum(differences**2, axis=-1))


@symbolic_aware
def extract_sequences(x: ArrayLike, sequence_length: int, sequence_stride: int) -> jax.Array:
    """Returns windows of the last axis, `(..., windows, sequence_length)`."""
    x = jnp.asarray(x)
    count = 1 + (x.shape[-1] - sequence_length) // sequence_stride
    starts = sequence_stride * jnp.arange(count)
    return x[..., starts[:, None] + jnp.arange(sequence_length)]


def _as_pair(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.real(x), jnp.imag(x)


def _from_pair(x: Any) -> jax.Array:
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(
            f"A Fourier transform was given {type(x).__name__}, expected the pair (real, imaginary). "
            "Pass both parts, such as (x, zeros_like(x))."
        )
    return jax.lax.complex(*map(jnp.asarray, x))


@symbolic_aware
def fft(x: Any) -> tuple[jax.Array, jax.Array]:
    """Returns the Fourier transform along the last axis; numbers are pairs `(real, imaginary)`."""
    return _as_pair(jnp.fft.fft(_from_pair(x)))


@symbolic_aware
def fft2(x: Any) -> tuple[jax.Array, jax.Array]:
    """Returns the Fourier transform along the last two axes; numbers are pairs `(real, imaginary)`."""
    return _as_pair(jnp.fft.fft2(_from_pair(x)))


@symbolic_aware
def ifft2(x: Any) -> tuple[jax.Array, jax.Array]:
    """Returns the inverse of `fft2`."""
    return _as_pair(jnp.fft.ifft2(_from_pair(x)))


@symbolic_aware
def rfft(x: ArrayLike, fft_length: int | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns the half of the Fourier transform of real numbers that decides the other."""
    return _as_pair(jnp.fft.rfft(jnp.asarray(x), fft_length))


@symbolic_aware
def irfft(x: Any, fft_length: int | None = None) -> jax.Array:
    """Returns the inverse of `rfft`."""
    return jnp.fft.irfft(_from_pair(x), fft_length)


@symbolic_aware
def view_as_complex(x: ArrayLike) -> jax.Array:
    """Returns `(..., 2)` as complex numbers `(...)`."""
    x = jnp.asarray(x)
    return jax.lax.complex(x[..., 0], x[..., 1])


@symbolic_aware
def view_as_real(x: ArrayLike) -> jax.Array:
    """Returns complex numbers `(...)` as `(..., 2)`."""
    return jnp.stack(_as_pair(jnp.asarray(x)), axis=-1)


@symbolic_aware
def slogdet(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns the sign and the logarithm of the size of the determinant."""
    sign, logarithm = jnp.linalg.slogdet(as_array(x))
    return sign, logarithm


@symbolic_aware
def logdet(x: ArrayLike) -> jax.Array:
    """Returns the logarithm of the determinant of a positive definite matrix."""
    return slogdet(x)[1]
