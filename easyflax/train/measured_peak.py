"""How fast this machine is at its best, found out by a large matrix product and a pass over memory."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["MeasuredPeak", "measured_peak"]

_ENOUGH = 0.005  # seconds that a call has to take, so that what it costs to begin it does not count
_SIDES = (1024, 4096, 8192)
_LENGTHS = (2**24, 2**28)  # float32; the shortest is beyond what most processors cache


@dataclass(frozen=True)
class MeasuredPeak:
    """What devices do a second, all of them at once.

    Attributes:
        dtype: of the matrix product.
        flops_per_second: of a large matrix product.
        bytes_per_second: that are read and written when large arrays change in place.
    """

    dtype: str
    flops_per_second: float
    bytes_per_second: float


def measured_peak(devices: Sequence[Any], dtype: Any = "float32") -> MeasuredPeak:
    """Returns how fast these devices are at their best; measured once in a process, in about a second.

    Args:
        devices: that are to work at once: simulated ones share the cores of the machine.
        dtype: of the matrix product.

    Examples:
        >>> import jax
        >>> measured_peak(jax.devices()[:1]) is measured_peak(jax.devices()[:1])
        True
    """
    return _peak(tuple(devices), jnp.dtype(dtype).name)


@functools.cache
def _peak(devices: tuple[Any, ...], dtype: str) -> MeasuredPeak:
    return MeasuredPeak(dtype, max(_product_rates(devices, dtype)), _bytes_per_second(devices))


def _product_rates(devices: Sequence[Any], dtype: str) -> Iterable[float]:
    product = jax.jit(jnp.matmul)
    for side in _SIDES:
        squares = _on_each(devices, (side, side), dtype)
        seconds = _best(lambda arrays: [product(array, array) for array in arrays], squares)[0]
        yield 2.0 * side**3 * len(devices) / seconds
        if seconds > _ENOUGH:
            return


@functools.cache
def _bytes_per_second(devices: tuple[Any, ...]) -> float:
    change = jax.jit(lambda array: array + 1, donate_argnums=0)
    rate = 0.0
    for length in _LENGTHS:
        arrays = _on_each(devices, (length // len(devices),), "float32")
        seconds, arrays = _best(lambda arrays: [change(array) for array in arrays], arrays, is_in_place=True)
        rate = 2.0 * 4 * length / seconds
        if seconds > _ENOUGH:
            break
    return rate


def _on_each(devices: Sequence[Any], shape: tuple[int, ...], dtype: str) -> list[jax.Array]:
    return [jax.device_put(jnp.ones(shape, dtype), device) for device in devices]


def _best(
    call: Callable[[list[jax.Array]], list[jax.Array]], arrays: list[jax.Array], *, is_in_place: bool = False
) -> tuple[float, list[jax.Array]]:
    """Returns the seconds of the fastest of some calls, after one that compiles, and the arrays it left."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        results = jax.block_until_ready(call(arrays))
        times.append(time.perf_counter() - begin)
        arrays = results if is_in_place else arrays
    return min(times[1:]), arrays
