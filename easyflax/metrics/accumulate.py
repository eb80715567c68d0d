"""Sums on the device that stay exact over any number of batches.

A float32 counter stops counting at 2**24: adding one to 16,777,216 changes nothing. A `Total` carries the
rounding error of its sum in a second float32, which makes counts exact up to 2**48 and sums nearly as good as
in float64, in float32 arithmetic that every device has. A `TotalState` is a variable that holds one and reads
as its sum.

Source: Knuth, The Art of Computer Programming 2, section 4.2.2, theorem B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from easyflax.initializers.constants import full
from easyflax.nnx.core.arithmetic import ActsAsValue
from easyflax.nnx.training.metrics import MetricState

__all__ = ["Total", "TotalState", "add", "zero"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Total(ActsAsValue[jax.Array]):
    """A sum as `high + low`, where `low` is what `high` could not hold; in calculations it is `high`.

    Attributes:
        high: the sum, rounded.
        low: what is missing from it, of the same shape and dtype.
    """

    high: jax.Array
    low: jax.Array

    def astype(self, dtype: DTypeLike) -> jax.Array:
        """Returns the sum in a dtype, which may hold more of it than `high` does."""
        return self.high.astype(dtype) + self.low.astype(dtype)

    def get_value(self, *, index: Any = ...) -> Any:
        """Returns the sum, or a part of it."""
        return self.high if index is ... else self.high[index]

    def __getattr__(self, name: str) -> Any:
        if name in ("high", "low") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.high, name)


def zero(shape: tuple[int, ...] = (), dtype: DTypeLike = jnp.float32) -> Total:
    """Returns the empty sum.

    Args:
        shape: of the numbers to add.
        dtype: float32 is taken for narrower ones, and for integers: it counts further than int32.
    """
    dtype = jnp.promote_types(dtype, jnp.float32)
    return Total(full(shape, 0, dtype), full(shape, 0, dtype))


def add(total: Total, amount: ArrayLike | Total) -> Total:
    """Returns `total + amount`, with the rounding error kept; `amount` has its shape, or is a scalar."""
    if isinstance(amount, Total):
        return add(add(total, amount.high), amount.low)
    amount = jnp.asarray(amount)
    if jnp.issubdtype(amount.dtype, jnp.integer) and amount.dtype.itemsize > 2:  # in parts that float32 holds
        part = amount % 2**12
        return _add(_add(total, part), amount - part)
    return _add(total, amount)


def _add(total: Total, amount: jax.Array) -> Total:
    amount = amount.astype(total.high.dtype)
    rounded, error = _two_sum(total.high, amount)
    # The error of an overflowed sum is NaN: the sum itself, infinite, says more.
    error = jnp.where(jnp.isfinite(rounded), total.low + error, 0)
    return _normalised(rounded, error)


class TotalState(MetricState):
    """A sum that a metric accumulates with `assign_add`, exactly; it reads as an array.

    Examples:
        >>> count = TotalState(zero())
        >>> _ = count.assign(2**24)
        >>> for _ in range(1000):
        ...     _ = count.assign_add(1)
        >>> int(count) - 2**24
        1000
    """

    __slots__ = ()

    def get_value(self, *, index: Any = ...) -> Any:
        """Returns the sum, or a part of it."""
        return super().get_value().get_value(index=index)

    def set_value(self, value: Any, *, index: Any = ...) -> None:
        """Replaces the sum, or a part of it; a `Total` is taken over exactly."""
        value = value.get_raw_value() if isinstance(value, TotalState) else value
        if index is ...:
            super().set_value(value if isinstance(value, Total) else _exactly(value, self.dtype))
        else:
            old = self.get_raw_value()
            super().set_value(Total(old.high.at[index].set(value), old.low.at[index].set(0)))

    def assign(self, value: Any) -> Any:
        """Replaces the sum, and returns it; a `Total` or another sum is taken over exactly."""
        exact = value.get_raw_value() if isinstance(value, TotalState) else value
        if not isinstance(exact, Total) or exact.shape != self.shape:
            return super().assign(value)
        self.set_value(exact)
        return exact.high

    def assign_add(self, value: Any) -> Any:
        """Adds to the sum, keeping the rounding error, and returns it."""
        value = value.get_raw_value() if isinstance(value, TotalState) else value
        value = value.get_value() if isinstance(value, MetricState) else value
        self.set_value(add(self.get_raw_value(), value))
        return self.get_value()

    def assign_sub(self, value: Any) -> Any:
        """Subtracts from the sum, keeping the rounding error, and returns it."""
        return self.assign_add(-value)


def _exactly(value: Any, dtype: DTypeLike) -> Total:
    high = jnp.asarray(value, dtype)
    return Total(high, jnp.zeros_like(high))


def _two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    rounded = a + b
    b_seen = rounded - a
    return rounded, (a - (rounded - b_seen)) + (b - b_seen)


def _normalised(high: jax.Array, low: jax.Array) -> Total:
    rounded = high + low
    return Total(rounded, jnp.where(jnp.isfinite(rounded), low - (rounded - high), 0))
