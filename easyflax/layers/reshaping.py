"""Layers that only move entries: `Flatten`, `Reshape`, `Permute`, `RepeatVector`."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.layers.arguments import check_data_format, check_rank
from easyflax.layers.layer import Layer
from easyflax.nnx.layers import checks

__all__ = ["Flatten", "Permute", "RepeatVector", "Reshape"]


class Flatten(Layer):
    """Puts all axes but the first one into one: `(batch, a, b)` to `(batch, a * b)`.

    Without other axes there will be one of size 1.

    Args:
        data_format: "channels_last" (the default), or "channels_first" for inputs `(batch, channels, ...)`
            whose entries are then brought to the order of the former.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: when called, the input has no axes.

    Examples:
        >>> import jax.numpy as jnp
        >>> Flatten()(jnp.ones((5, 2, 3))).shape
        (5, 6)
    """

    built = True

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)

    def call(self, inputs: jax.Array) -> jax.Array:
        _check_has_batch(self, inputs)
        if self.data_format == "channels_first" and inputs.ndim > 1:
            inputs = jnp.moveaxis(inputs, 1, -1)
        return jnp.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))


class Reshape(Layer):
    """Gives each row another shape.

    Args:
        target_shape: without the batch axis; one size may be -1, which stands for what is left.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        TypeError, ValueError: `target_shape` holds something else than sizes and one -1; when called, the
            input's rows have another number of entries.

    Examples:
        >>> import jax.numpy as jnp
        >>> Reshape((-1, 2))(jnp.ones((5, 6))).shape
        (5, 3, 2)
    """

    built = True

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sizes = (target_shape,) if isinstance(target_shape, int) else tuple(target_shape)
        if not all(isinstance(size, int | np.integer) and size >= -1 for size in sizes) or (
            sizes.count(-1) > 1
        ):
            raise ValueError(
                f"Reshape: got target_shape={sizes}, expected sizes without the batch axis, one of which may "
                "be -1. Pass for example (28, 28, 1)."
            )
        self.target_shape = tuple(map(int, sizes))

    def call(self, inputs: jax.Array) -> jax.Array:
        _check_has_batch(self, inputs)
        row, target = inputs.shape[1:], self.target_shape
        entries, known = math.prod(row), math.prod(size for size in target if size != -1)
        fits = entries == known if -1 not in target else known > 0 and entries % known == 0
        if not fits:
            expected = f"a multiple of {known}" if -1 in target else f"{known}"
            raise ValueError(
                f"{checks.describe(self)}: got an input of shape {inputs.shape}, whose rows have {entries} "
                f"entries, expected {expected} for target_shape={target}. Change target_shape, or the "
                "layers before."
            )
        sizes = [entries // known if size == -1 else size for size in target]
        return jnp.reshape(inputs, (inputs.shape[0], *sizes))


class Permute(Layer):
    """Puts the axes of each row in another order.

    Args:
        dims: the axes in their new order, counted from 1, as 0 is that of the batch.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `dims` are not the numbers from 1 on, each once; when called, the input has another number
            of axes.

    Examples:
        >>> import jax.numpy as jnp
        >>> Permute((2, 1))(jnp.ones((5, 2, 3))).shape
        (5, 3, 2)
    """

    built = True

    def __init__(self, dims: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"Permute: got dims={self.dims}, expected the numbers from 1 to {len(self.dims)} in some "
                "order. The batch axis, 0, is left out."
            )

    def call(self, inputs: jax.Array) -> jax.Array:
        check_rank(self, inputs, len(self.dims) + 1)
        return jnp.transpose(inputs, (0, *self.dims))


class RepeatVector(Layer):
    """Makes a sequence of `n` equal steps: `(batch, features)` to `(batch, n, features)`.

    Args:
        n: how many.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        TypeError, ValueError: `n` is no positive integer; when called, the input has other than two axes.

    Examples:
        >>> import jax.numpy as jnp
        >>> RepeatVector(3)(jnp.ones((5, 2))).shape
        (5, 3, 2)
    """

    built = True

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        checks.check_sizes(self, n=n)
        self.n = n

    def call(self, inputs: jax.Array) -> jax.Array:
        check_rank(self, inputs, 2)
        return jnp.repeat(inputs[:, None, :], self.n, axis=1)


def _check_has_batch(layer: Layer, inputs: Any) -> None:
    if np.ndim(inputs) == 0:
        raise ValueError(
            f"{checks.describe(layer)}: got an input without axes, expected one for the batch at least. Pass "
            "an array of shape (batch, ...)."
        )
