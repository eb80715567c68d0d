"""What the layers over sequences, images and volumes share: where the channels are, and sizes for each axis.

They compute with the channels in the last axis. Inputs with channels first, `(batch, channels, *spatial)`,
are transposed before and after, which XLA merges with the computation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.layers.layer import Layer
from easyflax.nnx.layers.checks import describe

__all__ = ["SpatialLayer", "known_padding", "pairs_each_axis", "sizes_each_axis"]


class SpatialLayer(Layer):
    """Base class of layers whose inputs are `(batch, *spatial, channels)`, or `(batch, channels, *spatial)`.

    Subclasses set `rank`, the number of spatial axes, and `data_format` in `__init__`.
    """

    rank: ClassVar[int]
    data_format: str = "channels_last"

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """The axes of the input between batch and channels, or after both."""
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self.rank))

    @property
    def channel_axis(self) -> int:
        """The axis of the input with the channels."""
        return -1 if self.data_format == "channels_last" else 1

    def channels_last(self, inputs: jax.Array) -> jax.Array:
        """Returns `(batch, *spatial, channels)` from what the layer was given.

        Raises:
            ValueError: it has another number of axes.
        """
        self.check_rank(jnp.shape(inputs))
        return jnp.moveaxis(inputs, self.channel_axis, -1)

    def as_given(self, outputs: jax.Array) -> jax.Array:
        """Returns `(batch, *spatial, channels)` with the channels where the layer's inputs have them."""
        return jnp.moveaxis(outputs, -1, self.channel_axis)

    def check_rank(self, shape: Sequence[int | None]) -> None:
        """Checks that there are a batch axis, the spatial axes, and channels.

        Raises:
            ValueError: there are more axes, or fewer.
        """
        if len(shape) != self.rank + 2:
            raise ValueError(
                f"{describe(self)}: got an input of shape {tuple(shape)}, expected {self.rank + 2} axes, "
                f"{self.layout()}. Reshape the input, or add the missing axes, for example x[..., None] for "
                "channels."
            )

    def layout(self) -> str:
        """Returns the axes of the input for messages, such as "(batch, height, width, channels)"."""
        spatial = {1: ("steps",), 2: ("height", "width"), 3: ("depth", "height", "width")}[self.rank]
        last = self.data_format == "channels_last"
        return f"({', '.join(('batch', *spatial, 'channels') if last else ('batch', 'channels', *spatial))})"


def known_padding(layer: Layer, padding: Any, known: Sequence[str] = ("valid", "same")) -> str:
    """Returns `padding` in lower case.

    Raises:
        ValueError: it is none of `known`.
    """
    name = padding.lower() if isinstance(padding, str) else padding
    if name not in known:
        raise ValueError(
            f"{describe(layer)}: got padding={padding!r}, expected one of {', '.join(map(repr, known))}. "
            "Pass one of them; ZeroPadding layers pad by other sizes."
        )
    return name


def sizes_each_axis(layer: Layer, name: str, value: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """Returns an argument as one integer for each of `rank` axes.

    Args:
        layer: named in the error.
        name: of the argument.
        value: an integer for all axes, or one for each.
        rank: the number of axes.
        least: the least that is allowed.

    Raises:
        ValueError: it is something else.
    """
    values: tuple[Any, ...] = (
        tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,) * rank
    )
    fits = len(values) == rank and all(_is_int(size) and size >= least for size in values)
    if not fits:
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        expected = kind if rank == 1 else f"{kind}, or {rank} of them"
        raise ValueError(
            f"{describe(layer)}: got {name}={value!r}, expected {expected}. Pass for example "
            f"{name}={least + 1 if rank == 1 else (least + 1,) * rank}."
        )
    return tuple(int(size) for size in values)


def pairs_each_axis(layer: Layer, name: str, value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """Returns an argument as sizes before and after each of `rank` axes.

    Args:
        layer: named in the error.
        name: of the argument.
        value: an integer for all sides, or for each axis an integer or a pair.
        rank: the number of axes.

    Raises:
        ValueError: it is something else, or a size is negative.
    """
    values: tuple[Any, ...] = (
        tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,) * rank
    )
    pairs = [(one, one) if _is_int(one) else one for one in values]
    fits = len(pairs) == rank and all(
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and all(_is_int(size) and size >= 0 for size in pair)
        for pair in pairs
    )
    if not fits:
        raise ValueError(
            f"{describe(layer)}: got {name}={value!r}, expected a size that is not negative, or for each of "
            f"{rank} axes a size or a pair (before, after). Pass for example {name}={((1, 1),) * rank}."
        )
    return tuple((int(before), int(after)) for before, after in pairs)


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
