"""Layers that make one array of several, and the functions that make and call them at once.

    Add()([a, b])
    add([a, b])

Inputs with fewer axes get axes of size 1 after that of the batch. Masks of sequences, `(batch, steps)`,
become one: with steps that any input has, where all inputs have a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from easyflax.layers.layer import Layer
from easyflax.layers.normalization import l2_normalize
from easyflax.nnx.layers import checks

__all__ = [
    "Add",
    "Average",
    "Concatenate",
    "Dot",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
    "add",
    "average",
    "concatenate",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]

Arrays = Sequence[jax.Array]
Masks = Sequence[jax.Array | None]


class _Merge(Layer):
    """What all have in common: a list of inputs, with masks."""

    built = True
    supports_masking = True
    _number: ClassVar[int | None] = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, inputs: Any, mask: Any = None) -> jax.Array:
        """Returns one array.

        Args:
            inputs: a list of arrays.
            mask: a list of their masks, None for inputs without one.

        Raises:
            ValueError: `inputs` are no list, or their shapes do not fit.
        """
        self._check_list(inputs)
        self._check_shapes([jnp.shape(one) for one in inputs])
        masks = [None] * len(inputs) if mask is None else self._masks(inputs, mask)
        return self._merge([jnp.asarray(one) for one in inputs], masks)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        masks = None if mask is None else self._masks(inputs, mask)
        if masks is None or any(one is None for one in masks):
            return None
        return _any_of(masks)

    def _merge(self, inputs: Arrays, masks: Masks) -> jax.Array:
        raise NotImplementedError

    def _check_shapes(self, shapes: list[tuple[int, ...]]) -> None:
        raise NotImplementedError

    def _check_list(self, inputs: Any) -> None:
        count = len(inputs) if isinstance(inputs, list | tuple) else None
        if not count or self._number not in (None, count):
            single = "one array" if hasattr(inputs, "shape") else f"an input of type {type(inputs).__name__}"
            got = single if count is None else f"{count} inputs"
            expected = f"a list of {self._number or 'one or more'}"
            name = type(self).__name__
            raise ValueError(
                f"{checks.describe(self)}: got {got}, expected {expected}. Write {name}(...)([a, b])."
            )

    def _masks(self, inputs: Any, mask: Any) -> list[jax.Array | None]:
        if not isinstance(mask, list | tuple) or len(mask) != len(inputs):
            got = f"{len(mask)}" if isinstance(mask, list | tuple) else type(mask).__name__
            raise ValueError(
                f"{checks.describe(self)}: got mask={got} for {len(inputs)} inputs, expected a list with one "
                "for each. Write None for inputs without a mask."
            )
        return [None if one is None else jnp.asarray(one, bool) for one in mask]

    def _mismatch(self, shapes: list[tuple[int, ...]], first: int, second: int, expected: str) -> ValueError:
        return ValueError(
            f"{checks.describe(self)}: got inputs {first} and {second} of shapes {shapes[first]} and "
            f"{shapes[second]}, expected {expected}. Change the layers that make them."
        )


class _Elementwise(_Merge):
    """Combines inputs of equal shapes, or of shapes that broadcast besides the batch."""

    def _merge(self, inputs: Arrays, masks: Masks) -> jax.Array:
        rank = max(one.ndim for one in inputs)
        # As in Keras, the values under a mask count where an input has got new axes.
        fitting = [mask if one.ndim == rank else None for one, mask in zip(inputs, masks, strict=True)]
        return self._combine([_with_rank(one, rank) for one in inputs], fitting)

    def _combine(self, inputs: Arrays, masks: Masks) -> jax.Array:
        raise NotImplementedError

    def _check_shapes(self, shapes: list[tuple[int, ...]]) -> None:
        rank = max(map(len, shapes))
        for number, shape in enumerate(shapes):
            for earlier in range(number):
                pairs = list(zip(_rows(shapes[earlier], rank), _rows(shape, rank), strict=True))
                if any(one != other and 1 not in (one, other) for one, other in pairs[1:]):
                    raise self._mismatch(shapes, earlier, number, "shapes that are equal or broadcast")
                if shape[:1] != shapes[earlier][:1]:
                    raise self._mismatch(shapes, earlier, number, "as many rows in both")


class Add(_Elementwise):
    """Returns the sum of its inputs.

    Args:
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: when called, shapes neither are equal nor broadcast.

    Examples:
        >>> import jax.numpy as jnp
        >>> Add()([jnp.ones((1, 2)), jnp.ones((1, 2))]).tolist()
        [[2.0, 2.0]]
    """

    def _combine(self, inputs: Arrays, masks: Masks) -> jax.Array:
        del masks
        return _fold(jnp.add, inputs)


class Subtract(_Elementwise):
    """Returns the first of two inputs minus the second.

    Args:
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: when called, there are not two inputs, or shapes neither are equal nor broadcast.
    """

    _number = 2

    def _combine(self, inputs: Arrays, masks: Masks) -> jax.Array:
        del masks
        return _fold(jnp.subtract, inputs)


class Average(_Elementwise):
    """Returns the mean of its inputs, entry by entry.

    Args:
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: when called, shapes neither are equal nor broadcast.
    """

    def _combine(self, inputs: Arrays, masks: Masks) -> jax.Array:
        del masks
        return _fold(jnp.add, inputs) / len(inputs)


class Multiply(_Elementwise):
    """Returns the product of its inputs, entry by entry; steps that a mask leaves out count as ones.

    Args:
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: when called, shapes neither are equal nor broadcast.
    """

    def _combine(self, inputs: Arrays, masks: Masks) -> jax.Array:
        product = _fold(
            jnp.multiply,
            [
                one if mask is None else jnp.where(mask[..., None], one, jnp.ones((), one.dtype))
                for one, mask in zip(inputs, masks, strict=True)
            ],
        )
        given = [mask for mask in masks if mask is not None]
        if len(given) < len(masks):
            return product
        return jnp.where(_any_of(given)[..., None], product, jnp.zeros((), product.dtype))


class _Extremum(_Elementwise):
    """The largest or smallest of the entries that no mask leaves out."""

    _function: ClassVar[Callable[..., jax.Array]]

    def _combine(self, inputs: Arrays, masks: Masks) -> jax.Array:
        output, counts = inputs[0], _for_entries(masks[0])
        for one, mask in zip(inputs[1:], map(_for_entries, masks[1:]), strict=True):
            other = one if mask is None else jnp.where(mask, one, output)
            output = output if counts is None else jnp.where(counts, output, other)
            counts = None if mask is None or counts is None else mask | counts
            output = type(self)._function(output, other)
        return output


class Maximum(_Extremum):
    """Returns the largest of its inputs, entry by entry; steps that a mask leaves out do not count.

    Args:
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: when called, shapes neither are equal nor broadcast.
    """

    _function = staticmethod(jnp.maximum)


class Minimum(_Extremum):
    """Returns the smallest of its inputs, entry by entry; steps that a mask leaves out do not count.

    Args:
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: when called, shapes neither are equal nor broadcast.
    """

    _function = staticmethod(jnp.minimum)


class Concatenate(_Merge):
    """Puts its inputs one after the other along an axis.

    Args:
        axis: which one.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        ValueError: when called, shapes differ in another axis.

    Examples:
        >>> import jax.numpy as jnp
        >>> Concatenate()([jnp.ones((5, 2)), jnp.ones((5, 3))]).shape
        (5, 5)
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        masks = [] if mask is None else self._masks(inputs, mask)
        if all(one is None for one in masks):
            return None
        whole = [_mask_of_shape(one, np.shape(x)) for one, x in zip(masks, inputs, strict=True)]
        return jnp.any(jnp.concatenate(whole, self.axis), axis=-1)

    def _merge(self, inputs: Arrays, masks: Masks) -> jax.Array:
        del masks
        return jnp.concatenate(inputs, self.axis)

    def _check_shapes(self, shapes: list[tuple[int, ...]]) -> None:
        for number, shape in enumerate(shapes):
            if not -len(shape) <= self.axis < len(shape):
                raise ValueError(
                    f"{checks.describe(self)}: got input {number} of shape {shape}, which has no axis "
                    f"{self.axis}, expected one. Pass another axis= to the layer."
                )
            if _without(shape, self.axis) != _without(shapes[0], self.axis):
                raise self._mismatch(shapes, 0, number, f"equal sizes of all axes but axis {self.axis}")


class Dot(_Merge):
    """Multiplies two inputs row by row, and sums over one axis of each.

    Inputs `(b, m, k)` and `(b, n, k)` give `(b, m, n)` for `axes=2`. Two inputs without further axes,
    `(b, k)`, give `(b, 1)`.

    Args:
        axes: the axis of both inputs that is summed over, or one of each; not 0, the batch axis.
        normalize: whether inputs are divided by their Euclidean norms along these axes before.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        TypeError, ValueError: `axes` are neither an integer nor two; when called, the axes differ in size.

    Examples:
        >>> import jax.numpy as jnp
        >>> Dot(axes=1)([jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])]).tolist()
        [[11.0]]
    """

    _number = 2

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(axes, int | list | tuple):
            raise TypeError(
                f"Dot: got axes={axes!r}, expected an integer or two. Pass for example axes=(2, 1)."
            )
        if not isinstance(axes, int) and (len(axes) != 2 or not all(isinstance(a, int) for a in axes)):
            raise ValueError(
                f"Dot: got axes={axes!r}, expected an integer or two. Pass one axis of each input, such as "
                "axes=(2, 1)."
            )
        self.axes = axes
        self.normalize = normalize

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        del inputs, mask  # the axes that masks are for may be gone

    def _merge(self, inputs: Arrays, masks: Masks) -> jax.Array:
        del masks
        axes = self._positive_axes([one.shape for one in inputs])
        if self.normalize:
            inputs = [l2_normalize(one, axis, epsilon=1e-7) for one, axis in zip(inputs, axes, strict=True)]
        contracted = ((axes[0],), (axes[1],))
        output = lax.dot_general(inputs[0], inputs[1], (contracted, ((0,), (0,))))
        return output[:, None] if output.ndim == 1 else output

    def _check_shapes(self, shapes: list[tuple[int, ...]]) -> None:
        for number, (shape, axis) in enumerate(zip(shapes, self._given_axes(), strict=True)):
            if not -len(shape) < axis < len(shape) or axis == 0:
                raise ValueError(
                    f"{checks.describe(self)}: got input {number} of shape {shape} and axes={self.axes}, "
                    "expected axes that the inputs have, the first one, of the batch, left out. Pass other "
                    "axes= to the layer."
                )
        axes = self._positive_axes(shapes)
        if shapes[0][axes[0]] != shapes[1][axes[1]]:
            raise self._mismatch(shapes, 0, 1, f"equal sizes of axes {axes[0]} and {axes[1]}")
        if shapes[0][0] != shapes[1][0]:
            raise self._mismatch(shapes, 0, 1, "as many rows in both")

    def _given_axes(self) -> tuple[int, int]:
        return (self.axes, self.axes) if isinstance(self.axes, int) else tuple(self.axes)

    def _positive_axes(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
        first, second = self._given_axes()
        return first % len(shapes[0]), second % len(shapes[1])


def add(inputs: Any, **kwargs: Any) -> Any:
    """Returns the sum of several arrays or symbolic values, see `Add`."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Any, **kwargs: Any) -> Any:
    """Returns the difference of two arrays or symbolic values, see `Subtract`."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs: Any) -> Any:
    """Returns the product of several arrays or symbolic values, see `Multiply`."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Any, **kwargs: Any) -> Any:
    """Returns the mean of several arrays or symbolic values, see `Average`."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Any, **kwargs: Any) -> Any:
    """Returns the largest of several arrays or symbolic values, see `Maximum`."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Any, **kwargs: Any) -> Any:
    """Returns the smallest of several arrays or symbolic values, see `Minimum`."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    """Returns several arrays or symbolic values one after the other, see `Concatenate`."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Any, axes: Any = -1, **kwargs: Any) -> Any:
    """Returns the products of the rows of two arrays or symbolic values, see `Dot`."""
    return Dot(axes=axes, **kwargs)(inputs)


def _fold(function: Callable[..., jax.Array], inputs: Arrays) -> jax.Array:
    output = inputs[0]
    for one in inputs[1:]:
        output = function(output, one)
    return output


def _any_of(masks: Any) -> jax.Array:
    return _fold(jnp.logical_or, masks)


def _rows(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Returns a shape with axes of size 1 after the first one, `rank` in all."""
    return (*shape[:1], *(1,) * (rank - len(shape)), *shape[1:])


def _with_rank(x: jax.Array, rank: int) -> jax.Array:
    return x if x.ndim == rank else jnp.reshape(x, _rows(x.shape, rank))


def _for_entries(mask: jax.Array | None) -> jax.Array | None:
    return None if mask is None else mask[..., None]


def _mask_of_shape(mask: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    """Returns the mask of one input of `Concatenate` with an entry for each of the input's."""
    if mask is None:
        return jnp.ones(shape, bool)
    return jnp.broadcast_to(mask[..., None], shape) if mask.ndim < len(shape) else mask


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    axis %= len(shape)
    return shape[:axis] + shape[axis + 1 :]
