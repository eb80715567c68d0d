"""Reads images at coordinates between and beyond their pixels: affine, perspective and elastic transforms.

The functions are compiled as a whole, for calls of layers outside of any other compiled function.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "FILL_MODES",
    "INTERPOLATIONS",
    "affine_coordinates",
    "homographies",
    "pixel_coordinates",
    "projective_coordinates",
    "sample_at",
]

INTERPOLATIONS = ("nearest", "bilinear")
FILL_MODES = ("reflect", "wrap", "constant", "nearest")


@partial(jax.jit, static_argnames=("interpolation", "fill_mode", "fill_value"))
def sample_at(
    images: jax.Array, coordinates: Any, interpolation: str, fill_mode: str, fill_value: float = 0.0
) -> jax.Array:
    """Reads images at coordinates.

    Args:
        images: `(batch, height, width, channels)`.
        coordinates: `(batch, 2, new_height, new_width)`, of rows and of columns, in pixels.
        interpolation: "nearest" or "bilinear".
        fill_mode: what lies beyond the edges: "constant", "nearest", "reflect" (the edge twice), "mirror"
            (the edge once) or "wrap".
        fill_value: for "constant".

    Returns:
        `(batch, new_height, new_width, channels)`, in the dtype of the images.
    """
    order = INTERPOLATIONS.index(interpolation)

    def read(plane: jax.Array, at: Any) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(plane, at, order, fill_mode, fill_value)

    over_channels = jax.vmap(read, in_axes=(-1, None), out_axes=-1)
    return jax.vmap(over_channels)(images, coordinates).astype(images.dtype)


def pixel_coordinates(height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Returns the row and the column of each pixel, float32 `(height, width)`."""
    rows = jnp.arange(height, dtype=jnp.float32)
    columns = jnp.arange(width, dtype=jnp.float32)
    return tuple(jnp.meshgrid(rows, columns, indexing="ij"))  # type: ignore[return-value]


@partial(jax.jit, static_argnames=("height", "width"))
def affine_coordinates(matrices: Any, height: int, width: int) -> jax.Array:
    """Returns where the pixels of a transformed image come from.

    Args:
        matrices: `(batch, 2, 3)`: a column and a row of the input are these times `(column, row, 1)` of
            the output.
        height: in pixels.
        width: in pixels.

    Returns:
        `(batch, 2, height, width)`, for `sample_at`.
    """
    y, x = pixel_coordinates(height, width)
    m = jnp.asarray(matrices, jnp.float32)[..., None, None]
    columns = x * m[:, 0, 0] + y * m[:, 0, 1] + m[:, 0, 2]
    rows = x * m[:, 1, 0] + y * m[:, 1, 1] + m[:, 1, 2]
    return jnp.stack([rows, columns], axis=1)


@jax.jit
def homographies(targets: Any, sources: Any) -> jax.Array:
    """Returns the projective maps that take four points to four others.

    Args:
        targets: `(batch, 4, 2)`, column and row of each.
        sources: likewise; each map takes `sources` to `targets`.

    Returns:
        `(batch, 3, 3)`, with 1 in the last corner.
    """
    x, y = sources[..., 0], sources[..., 1]
    u, v = targets[..., 0], targets[..., 1]
    one, zero = jnp.ones_like(x), jnp.zeros_like(x)
    for_u = jnp.stack([x, y, one, zero, zero, zero, -u * x, -u * y], axis=-1)  # (batch, 4, 8)
    for_v = jnp.stack([zero, zero, zero, x, y, one, -v * x, -v * y], axis=-1)
    system = jnp.concatenate([for_u, for_v], axis=1)
    found = jnp.linalg.solve(system, jnp.concatenate([u, v], axis=-1)[..., None])[..., 0]
    return jnp.concatenate([found, jnp.ones_like(found[:, :1])], axis=-1).reshape(-1, 3, 3)


@partial(jax.jit, static_argnames=("height", "width"))
def projective_coordinates(maps: jax.Array, height: int, width: int) -> jax.Array:
    """Returns where the pixels of a projected image come from.

    Args:
        maps: `(batch, 3, 3)`, from the output to the input; see `homographies`.
        height: in pixels.
        width: in pixels.

    Returns:
        `(batch, 2, height, width)`, for `sample_at`.
    """
    y, x = pixel_coordinates(height, width)
    m = maps[..., None, None]
    depth = m[:, 2, 0] * x + m[:, 2, 1] * y + m[:, 2, 2]
    columns = (m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2]) / depth
    rows = (m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2]) / depth
    return jnp.stack([rows, columns], axis=1)
