"""`Rescaling`: multiplies and shifts the input."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.layers.layer import Layer

__all__ = ["Rescaling", "as_plain"]


class Rescaling(Layer):
    """Returns `inputs * scale + offset` in the layer's dtype.

    Args:
        scale: a number, or as many as the last axis has.
        offset: likewise.
        **kwargs: see `Layer`.

    Examples:
        >>> import jax.numpy as jnp
        >>> Rescaling(1 / 127.5, offset=-1)(jnp.array([0, 255], jnp.uint8))
        Array([-1.,  1.], dtype=float32)
    """

    built: bool = True
    supports_masking = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = as_plain(scale)
        self.offset = as_plain(offset)

    def call(self, inputs: Any) -> jax.Array:
        """Returns the rescaled input, in its shape."""
        dtype = self.compute_dtype
        return jnp.asarray(inputs).astype(dtype) * jnp.asarray(self.scale, dtype) + jnp.asarray(
            self.offset, dtype
        )


def as_plain(value: Any) -> Any:
    """Returns a number, or nested tuples of them, for what NumPy can read."""
    return _as_tuples(np.asarray(value).tolist())


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(one) for one in value) if isinstance(value, list) else value
