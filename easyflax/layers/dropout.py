"""Dropout of entries, and of whole feature maps.

The layers draw from a `SeedGenerator` of their own, whose counter is part of the state that training carries
on. With an integer `seed` they draw what Keras draws with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from easyflax import random
from easyflax.layers.arguments import check_data_format, check_rank, check_share
from easyflax.layers.layer import Layer, Shape
from easyflax.nnx.layers import checks

__all__ = ["Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"]


class Dropout(Layer):
    """Sets a random share of its input to zero in training, and scales the rest so that the mean stays.

    Args:
        rate: the probability of zero, from 0 to 1.
        noise_shape: the shape in which is decided what stays: the input's, 1 for an axis whose entries share
            one decision, None for the input's size.
        seed: an integer; by default drawn from the global seed.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        TypeError, ValueError: `rate` is outside `[0, 1]`, or `noise_shape` holds something else than positive
            integers and None.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = Dropout(0.5)
        >>> x = jnp.ones((10, 10))
        >>> sorted({float(y) for y in layer(x, training=True).ravel()}), float(layer(x).min())
        ([0.0, 2.0], 1.0)

    Source: Srivastava et al. 2014, section 4, https://jmlr.org/papers/v15/srivastava14a.html
    """

    built = True
    supports_masking = True
    noise_shape: tuple[int | None, ...] | None

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = check_share(self, rate=rate)
        self.noise_shape = check_noise_shape(self, noise_shape)
        self.seed = seed
        if rate > 0:
            self.seed_generator = random.SeedGenerator(seed)

    def call(self, inputs: jax.Array, training: bool | None = False) -> jax.Array:
        if not training or self.rate == 0:
            return inputs
        shape = self._noise_shape_for(inputs)
        return random.dropout(inputs, self.rate, noise_shape=shape, seed=self.seed_generator)

    def _noise_shape_for(self, inputs: jax.Array) -> tuple[int, ...]:
        return full_noise_shape(self, self.noise_shape, inputs.shape)


class _SpatialDropout(Dropout):
    """Drops whole feature maps; subclasses say of how many axes."""

    _rank: ClassVar[int]

    def __init__(self, rate: float, data_format: str | None, seed: int | None, name: Any, dtype: Any) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype)
        self.data_format = check_data_format(self, data_format)

    def call(self, inputs: jax.Array, training: bool | None = False) -> jax.Array:
        check_rank(self, inputs, self._rank)
        return super().call(inputs, training=training)

    def _noise_shape_for(self, inputs: jax.Array) -> tuple[int, ...]:
        channels = 1 if self.data_format == "channels_first" else self._rank - 1
        return tuple(size if axis in (0, channels) else 1 for axis, size in enumerate(inputs.shape))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["trainable"]  # no argument of these layers
        return config


class SpatialDropout1D(_SpatialDropout):
    """Dropout of whole features of sequences, at all steps together.

    Args:
        rate: the probability of zero, from 0 to 1.
        seed: an integer; by default drawn from the global seed.
        name: see `Layer`.
        dtype: see `Layer`.

    Raises:
        ValueError: `rate` is outside `[0, 1]`; when called, the input is not `(batch, steps, features)`.

    Source: Tompson et al. 2015, section 3.2, https://arxiv.org/abs/1411.4280
    """

    _rank = 3

    def __init__(self, rate: float, seed: int | None = None, name: Any = None, dtype: Any = None) -> None:
        super().__init__(rate, None, seed, name, dtype)


class SpatialDropout2D(_SpatialDropout):
    """Dropout of whole feature maps of images.

    Args:
        rate: the probability of zero, from 0 to 1.
        data_format: "channels_last" (the default) or "channels_first".
        seed: an integer; by default drawn from the global seed.
        name: see `Layer`.
        dtype: see `Layer`.

    Raises:
        ValueError: `rate` is outside `[0, 1]`; when called, the input has other than four axes.

    Source: Tompson et al. 2015, section 3.2, https://arxiv.org/abs/1411.4280
    """

    _rank = 4

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(rate, data_format, seed, name, dtype)


class SpatialDropout3D(_SpatialDropout):
    """Dropout of whole feature maps of volumes.

    Args:
        rate: the probability of zero, from 0 to 1.
        data_format: "channels_last" (the default) or "channels_first".
        seed: an integer; by default drawn from the global seed.
        name: see `Layer`.
        dtype: see `Layer`.

    Raises:
        ValueError: `rate` is outside `[0, 1]`; when called, the input has other than five axes.

    Source: Tompson et al. 2015, section 3.2, https://arxiv.org/abs/1411.4280
    """

    _rank = 5

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(rate, data_format, seed, name, dtype)


def check_noise_shape(layer: Layer, noise_shape: Any) -> tuple[int | None, ...] | None:
    """Returns `noise_shape=` as a tuple.

    Raises:
        TypeError, ValueError: it is something else than positive integers and None.
    """
    if noise_shape is None:
        return None
    if isinstance(noise_shape, str) or not isinstance(noise_shape, Sequence | np.ndarray):
        raise TypeError(
            f"{type(layer).__name__}: got noise_shape={noise_shape!r}, expected a tuple with an entry for "
            "each axis. Pass for example noise_shape=(None, 1, None)."
        )
    for size in noise_shape:
        if size is not None and (not isinstance(size, int | np.integer) or size < 1):
            raise ValueError(
                f"{type(layer).__name__}: got noise_shape={tuple(noise_shape)}, expected positive integers "
                "and None. Pass None for the size of the input."
            )
    return tuple(None if size is None else int(size) for size in noise_shape)


def full_noise_shape(layer: Layer, noise_shape: Shape | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns `noise_shape` with the sizes of an input of this shape in place of None.

    Raises:
        ValueError: it does not broadcast to that of the input.
    """
    if noise_shape is None:
        return shape
    if len(noise_shape) != len(shape) or any(
        size not in (None, 1, own) for size, own in zip(noise_shape, shape, strict=True)
    ):
        raise ValueError(
            f"{checks.describe(layer)}: got an input of shape {shape} with noise_shape={noise_shape}, "
            "expected one that broadcasts to it, of as many axes. Write 1 for axes that share one decision, "
            "None for the others."
        )
    return tuple(own if size is None else size for size, own in zip(noise_shape, shape, strict=True))
