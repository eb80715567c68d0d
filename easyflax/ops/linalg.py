"""Linear algebra."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from easyflax.dispatch import symbolic_aware
from easyflax.ops.table import as_array, from_table

_FUNCTIONS = from_table(
    jnp.linalg,
    "jax.numpy.linalg",
    """
    det(x)
    inv(x)
    norm(x, ord=None, axis=None, keepdims=False)
    qr(x, mode="reduced")
    svd(x, full_matrices=True, compute_uv=True)
    """,
)
globals().update(_FUNCTIONS)

NAMES = (*_FUNCTIONS, "cholesky", "eig", "eigh", "lstsq", "lu_factor", "pinv", "solve", "solve_triangular")


@symbolic_aware
def cholesky(x: ArrayLike, upper: bool = False) -> jax.Array:
    """Returns the triangular factor of a positive definite matrix."""
    return jnp.linalg.cholesky(as_array(x), upper=upper)


@symbolic_aware
def eig(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns eigenvalues and eigenvectors; on CPU only."""
    values, vectors = jnp.linalg.eig(as_array(x))
    return values, vectors


@symbolic_aware
def eigh(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Returns eigenvalues and eigenvectors of a symmetric matrix."""
    values, vectors = jnp.linalg.eigh(as_array(x))
    return values, vectors


@symbolic_aware
def lstsq(a: ArrayLike, b: ArrayLike, rcond: float | None = None) -> jax.Array:
    """Returns the `x` for which `a x` is nearest to `b`."""
    return jnp.linalg.lstsq(as_array(a), as_array(b), rcond)[0]


@symbolic_aware
def lu_factor(x: ArrayLike) -> Any:
    """Returns both triangular factors in one matrix, and the pivots."""
    return jax.scipy.linalg.lu_factor(as_array(x))


@symbolic_aware
def pinv(x: ArrayLike, rcond: float | None = None) -> jax.Array:
    """Returns the pseudo-inverse; singular values below `rcond` times the largest count as zero."""
    return jnp.linalg.pinv(as_array(x), rcond)


@symbolic_aware
def solve(a: ArrayLike, b: ArrayLike) -> jax.Array:
    """Returns the `x` with `a x = b`; `b` is a vector for each matrix, or a matrix."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    if b.ndim == a.ndim - 1:
        return jnp.linalg.solve(a, b[..., None])[..., 0]
    return jnp.linalg.solve(a, b)


@symbolic_aware
def solve_triangular(a: ArrayLike, b: ArrayLike, lower: bool = False) -> jax.Array:
    """Returns the `x` with `a x = b` for a triangular `a`; `b` is a vector for each matrix, or a matrix."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    if b.ndim == a.ndim - 1:
        return jax.lax.linalg.triangular_solve(a, b[..., None], left_side=True, lower=lower)[..., 0]
    return jax.lax.linalg.triangular_solve(a, b, left_side=True, lower=lower)
