"""Zeros around sequences, images and volumes, and cutting off their borders."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.arguments import check_data_format
from easyflax.layers.spatial import SpatialLayer, pairs_each_axis, sizes_each_axis
from easyflax.nnx.layers.checks import describe

__all__ = [
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]


class _ZeroPadding(SpatialLayer):
    """Base class; see `ZeroPadding2D`."""

    built = True

    def _pads(self) -> Any:
        """The sizes before and after each spatial axis."""
        return self.padding

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)
        self.padding = self._normalized(padding)

    def _normalized(self, padding: Any) -> Any:
        return pairs_each_axis(self, "padding", padding, self.rank)

    def call(self, inputs: jax.Array) -> jax.Array:
        """Returns the inputs with zeros around them."""
        self.check_rank(jnp.shape(inputs))
        pads = [(0, 0)] * inputs.ndim
        for axis, pair in zip(self.spatial_axes, self._pads(), strict=True):
            pads[axis] = pair
        return jnp.pad(inputs, pads)


class ZeroPadding1D(_ZeroPadding):
    """Zeros before and after a sequence.

    Args:
        padding: how many on both sides, or a pair `(before, after)`.
        data_format: `"channels_last"`, inputs are `(batch, steps, channels)`; or `"channels_first"`:
            `(batch, channels, steps)`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `padding` is something else.

    Examples:
        >>> import jax.numpy as jnp
        >>> ZeroPadding1D((2, 0))(jnp.ones((1, 2, 1))).ravel().tolist()
        [0.0, 0.0, 1.0, 1.0]
    """

    rank = 1

    def _normalized(self, padding: Any) -> Any:
        return sizes_each_axis(self, "padding", padding, 2, least=0)

    def _pads(self) -> Any:
        return (self.padding,)


class ZeroPadding2D(_ZeroPadding):
    """Zeros around an image.

    Args:
        padding: how many on all sides; or `(height, width)`, each an integer for both sides or a pair:
            `((top, bottom), (left, right))`.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `padding` is something else.

    Examples:
        >>> import jax.numpy as jnp
        >>> ZeroPadding2D(((1, 0), 2))(jnp.ones((1, 3, 3, 1))).shape
        (1, 4, 7, 1)
    """

    rank = 2


class ZeroPadding3D(_ZeroPadding):
    """Zeros around a volume, `(batch, depth, height, width, channels)`.

    Args:
        padding: how many on all sides; or one entry for each axis, an integer for both sides or a pair.
        data_format: `"channels_last"`, or `"channels_first"`: `(batch, channels, depth, height, width)`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `padding` is something else.
    """

    rank = 3


class _Cropping(SpatialLayer):
    """Base class; see `Cropping2D`."""

    built = True
    cropping: Any

    def _crops(self) -> Any:
        """What is cut off before and after each spatial axis."""
        return self.cropping

    def call(self, inputs: jax.Array) -> jax.Array:
        """Returns the inputs without their borders.

        Raises:
            ValueError: nothing would be left.
        """
        shape = jnp.shape(inputs)
        self.check_rank(shape)
        kept = [slice(None)] * len(shape)
        for axis, (before, after) in zip(self.spatial_axes, self._crops(), strict=True):
            if before + after >= shape[axis]:
                raise ValueError(
                    f"{describe(self)}: got an input of shape {shape} with size {shape[axis]} of axis "
                    f"{axis}, expected more than the {before} + {after} that are cut off there. Pass larger "
                    "inputs, or crop less."
                )
            kept[axis] = slice(before, shape[axis] - after)
        return inputs[tuple(kept)]


class Cropping1D(_Cropping):
    """Cuts off the beginning and the end of a sequence, `(batch, steps, channels)`.

    Args:
        cropping: how many steps on both sides, or a pair `(before, after)`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `cropping` is something else.

    Examples:
        >>> import jax.numpy as jnp
        >>> Cropping1D((2, 1))(jnp.arange(5).reshape(1, 5, 1)).ravel().tolist()
        [2, 3]
    """

    rank = 1

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cropping = sizes_each_axis(self, "cropping", cropping, 2, least=0)

    def _crops(self) -> Any:
        return (self.cropping,)


class Cropping2D(_Cropping):
    """Cuts off the borders of an image.

    Args:
        cropping: how much on all sides; or `(height, width)`, each an integer for both sides or a pair:
            `((top, bottom), (left, right))`.
        data_format: `"channels_last"`, inputs are `(batch, height, width, channels)`; or `"channels_first"`:
            `(batch, channels, height, width)`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `cropping` is something else.

    Examples:
        >>> import jax.numpy as jnp
        >>> Cropping2D(((1, 0), 2))(jnp.ones((1, 6, 6, 1))).shape
        (1, 5, 2, 1)
    """

    rank = 2

    def __init__(
        self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)
        self.cropping = pairs_each_axis(self, "cropping", cropping, self.rank)


class Cropping3D(_Cropping):
    """Cuts off the borders of a volume, `(batch, depth, height, width, channels)`.

    Args:
        cropping: how much on all sides; or one entry for each axis, an integer for both sides or a pair.
        data_format: `"channels_last"`, or `"channels_first"`: `(batch, channels, depth, height, width)`.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: `cropping` is something else.
    """

    rank = 3

    def __init__(
        self, cropping: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(self, data_format)
        self.cropping = pairs_each_axis(self, "cropping", cropping, self.rank)
