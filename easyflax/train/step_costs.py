"""What a compiled step does and takes, as XLA counts it: operations, bytes, memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["StepCosts", "StepMemory", "costs_of", "has_loop", "memory_of_step"]

# A loop that carries floating-point values, unlike those that draw random bits.
_LOOP = re.compile(r"stablehlo\.while.*\) : .*[x<]b?f(?:16|32|64)>")


@dataclass(frozen=True)
class StepCosts:
    """What one call of a compiled function does, on all its devices together.

    Attributes:
        flops: floating-point operations; None when unknown.
        bytes_accessed: read and written by all operations, from caches too; None when unknown.
    """

    flops: float | None
    bytes_accessed: float | None


@dataclass(frozen=True)
class StepMemory:
    """The bytes that one call of a compiled function takes on each device.

    Attributes:
        arguments: what it is given, such as the train state and the batch.
        results: what it returns in memory of its own; donated arguments that are replaced take none.
        temporary: what lies between them, above all the activations kept for gradients.
    """

    arguments: int
    results: int
    temporary: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.arguments + self.results + self.temporary


def costs_of(lowered: Any, compiled: Any = None, num_devices: int = 1) -> StepCosts:
    """Returns what a function does.

    Args:
        lowered: a `jax.stages.Lowered`, or None.
        compiled: the `jax.stages.Compiled` made of it, which knows more, or None.
        num_devices: that it runs on.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> lowered = jax.jit(jnp.matmul).lower(jnp.ones((8, 4)), jnp.ones((4, 2)))
        >>> costs_of(lowered).flops
        128.0
    """
    # Operations are counted before they are compiled, since libraries that compute some hide theirs; bytes
    # after it, since what is fused is never written. Of the compiled function each device counts its share.
    stated, found = _analysis(lowered), _analysis(compiled)
    flops = _positive(stated, "flops") or _times(_positive(found, "flops"), num_devices)
    read = _times(_positive(found, "bytes accessed"), num_devices) or _positive(stated, "bytes accessed")
    return StepCosts(flops, read)


def has_loop(lowered: Any) -> bool:
    """Says whether a `jax.stages.Lowered` repeats something, as recurrent layers do.

    XLA counts that once, however often it runs: what `costs_of` returns is then the least that it can be.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> def power(x):
        ...     return jax.lax.fori_loop(0, 9, lambda _, power: power @ x, x)
        >>> lowered = jax.jit(power).lower(jnp.ones((2, 2)))
        >>> has_loop(lowered)
        True
    """
    return _LOOP.search(lowered.as_text()) is not None


def memory_of_step(compiled: Any) -> StepMemory | None:
    """Returns what a `jax.stages.Compiled` takes on each device; None when its platform does not tell."""
    stats = None if compiled is None else compiled.memory_analysis()
    if stats is None:
        return None
    own = max(0, stats.output_size_in_bytes - stats.alias_size_in_bytes)
    return StepMemory(stats.argument_size_in_bytes, own, stats.temp_size_in_bytes)


def _analysis(stage: Any) -> Mapping[str, float]:
    costs = None if stage is None else stage.cost_analysis()
    if isinstance(costs, list):  # one for each device, in some releases of JAX
        costs = costs[0] if costs else None
    return costs or {}


def _positive(costs: Mapping[str, float], name: str) -> float | None:
    value = float(costs.get(name, 0.0))
    return value if value > 0 else None


def _times(value: float | None, factor: int) -> float | None:
    return None if value is None else value * factor
