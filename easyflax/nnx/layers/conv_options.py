"""What convolutions and transposed ones share: their options, the layout of axes, and checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from easyflax.nnx.layers import checks

__all__ = [
    "Padding",
    "canonical_padding",
    "channels_last",
    "check_convolution",
    "check_kernel_mask",
    "check_not_empty",
    "each_axis",
    "with_one_batch_axis",
]

Padding = str | int | Sequence[int | tuple[int, int]]


def canonical_padding(
    padding: Padding, rank: int, known: Sequence[str], layer: str
) -> str | tuple[tuple[int, int], ...]:
    """Returns `padding` as a name, or as one `(low, high)` pair for each of `rank` spatial axes.

    Args:
        padding: a name, an integer, or for each axis an integer or a pair.
        rank: the number of spatial axes.
        known: the names that are allowed.
        layer: named in the error.

    Raises:
        ValueError: it is no known name, integer, or sequence of `rank` integers or pairs.

    Examples:
        >>> from easyflax.nnx.layers.conv_options import canonical_padding
        >>> canonical_padding(1, 2, ["SAME"], "Conv")
        ((1, 1), (1, 1))
        >>> canonical_padding([1, (0, 2)], 2, ["SAME"], "Conv")
        ((1, 1), (0, 2))
    """
    if isinstance(padding, str) and padding in known:
        if padding == "CAUSAL" and rank != 1:
            raise ValueError(
                f"{layer}: got padding 'CAUSAL' for {rank} spatial axes, expected one spatial axis. "
                "Use it with a one-dimensional kernel_size, or pass the pairs of padding yourself."
            )
        return padding
    if isinstance(padding, (int, np.integer)):
        return ((int(padding), int(padding)),) * rank
    if isinstance(padding, Sequence) and not isinstance(padding, str) and len(padding) == rank:
        pairs = [(p, p) if isinstance(p, (int, np.integer)) else p for p in padding]
        if all(_is_pair(pair) for pair in pairs):
            return tuple((int(low), int(high)) for low, high in pairs)
    raise ValueError(
        f"{layer}: got padding {padding!r} for {rank} spatial axes, expected one of "
        f"{', '.join(map(repr, known))}, an integer, or a sequence of {rank} integers or (low, high) "
        "pairs. Pass one of these."
    )


def _is_pair(pair: Any) -> bool:
    return (
        isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(p, (int, np.integer)) for p in pair)
    )


def channels_last(rank: int) -> lax.ConvDimensionNumbers:
    """Returns the layout `(batch, *spatial, features)`, with `rank` spatial axes.

    Kernels are `(*spatial, in_features, out_features)`.
    """
    spatial = tuple(range(1, rank + 1))
    image = (0, rank + 1, *spatial)
    return lax.ConvDimensionNumbers(image, (rank + 1, rank, *range(rank)), image)


def with_one_batch_axis(x: ArrayLike, rank: int) -> ArrayLike:
    """Returns `x`, `(*batch, *spatial, features)` with `rank` spatial axes, with the batch in one axis."""
    shape = np.shape(x)
    batch = shape[: -rank - 1]
    return x if len(batch) == 1 else jnp.reshape(x, (math.prod(batch), *shape[-rank - 1 :]))


def each_axis(layer: Any, option: str, rank: int) -> tuple[int, ...]:
    """Returns the layer's option as one integer for each spatial axis; None is 1.

    Raises:
        ValueError: it has another number of entries.
    """
    value = 1 if (given := getattr(layer, option)) is None else given
    values = tuple(value) if isinstance(value, Iterable) else (value,) * rank
    if len(values) != rank:
        raise ValueError(
            f"{checks.describe(layer)}: got {option}={values} for {rank} spatial axes, expected an integer "
            f"or {rank} of them. Pass one for each entry of kernel_size."
        )
    return values


def check_convolution(layer: Any, *options: str) -> None:
    """Checks the sizes of a layer, and its `options` that are one positive integer for each axis.

    Args:
        layer: has `in_features`, `out_features`, `kernel_size`, and the options.
        *options: names of attributes.

    Raises:
        TypeError, ValueError: one does not fit.
    """
    rank = len(layer.kernel_size)
    checks.check_sizes(layer, in_features=layer.in_features, out_features=layer.out_features)
    checks.check_sizes(layer, **_numbered("kernel_size", layer.kernel_size))
    for option in options:
        checks.check_sizes(layer, **_numbered(option, each_axis(layer, option, rank)))


def _numbered(option: str, values: Sequence[Any]) -> dict[str, Any]:
    return {f"{option}[{axis}]": value for axis, value in enumerate(values)}


def check_not_empty(layer: Any, inputs: Any, rank: int) -> None:
    """Checks that there is something along each of the `rank` spatial axes, to go around or to mirror.

    Raises:
        ValueError: one has the size 0.
    """
    if 0 in (shape := np.shape(inputs))[-rank - 1 : -1]:
        raise ValueError(
            f"{checks.describe(layer)}: got an input of shape {shape} with padding={layer.padding!r}, "
            "expected sizes of at least 1 along the spatial axes. Leave empty inputs out, or pad with zeros: "
            "padding='SAME'."
        )


def check_kernel_mask(layer: Any, shape: tuple[int, ...]) -> None:
    """Checks that the layer's `mask`, if there is one, has the `shape` of the kernel.

    Raises:
        ValueError: it has not.
    """
    if layer.mask is not None and np.shape(layer.mask) != shape:
        raise ValueError(
            f"{checks.describe(layer)}: got a mask of shape {np.shape(layer.mask)}, expected {shape}, the "
            "shape of the kernel. Pass a mask with one entry for each of the kernel's."
        )
