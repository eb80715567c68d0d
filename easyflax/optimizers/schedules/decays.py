"""Schedules that fall: exponentially, by the inverse of time, as a polynomial, in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.optimizers.schedules.base import LearningRateSchedule, as_float, check_steps

__all__ = ["ExponentialDecay", "InverseTimeDecay", "PiecewiseConstantDecay", "PolynomialDecay"]


class ExponentialDecay(LearningRateSchedule):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`.

    Args:
        initial_learning_rate: of the first step.
        decay_steps: after so many steps the rate is `decay_rate` times as high.
        decay_rate: the factor.
        staircase: whether the exponent is rounded down, so that the rate falls once in `decay_steps`.
        name: for configurations.

    Raises:
        ValueError: `decay_steps` is not above zero.

    Examples:
        >>> round(float(ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)(20)), 4)
        0.025
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ):
        check_steps("ExponentialDecay", decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step: Any) -> jax.Array:
        power = _periods(step, self.decay_steps, self.staircase)
        return self.initial_learning_rate * jnp.asarray(self.decay_rate, jnp.float32) ** power


class InverseTimeDecay(LearningRateSchedule):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`.

    Args:
        initial_learning_rate: of the first step.
        decay_steps: the unit in which steps are counted.
        decay_rate: how fast the rate falls.
        staircase: whether the quotient is rounded down, so that the rate falls once in `decay_steps`.
        name: for configurations.

    Raises:
        ValueError: `decay_steps` is not above zero.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ):
        check_steps("InverseTimeDecay", decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step: Any) -> jax.Array:
        periods = _periods(step, self.decay_steps, self.staircase)
        return self.initial_learning_rate / (1 + self.decay_rate * periods)


class PolynomialDecay(LearningRateSchedule):
    """From one rate to another in `decay_steps` steps, along a power.

    Args:
        initial_learning_rate: of the first step.
        decay_steps: how long it falls.
        end_learning_rate: what it ends with.
        power: 1 for a straight line.
        cycle: whether it begins anew after that, over twice, three times ... as many steps.
        name: for configurations.

    Raises:
        ValueError: `decay_steps` is not above zero.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ):
        check_steps("PolynomialDecay", decay_steps=decay_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def __call__(self, step: Any) -> jax.Array:
        step, length = as_float(step), jnp.asarray(self.decay_steps, jnp.float32)
        if self.cycle:
            length = length * jnp.where(step == 0, 1.0, jnp.ceil(step / length))
        left = 1 - jnp.minimum(step, length) / length
        span = self.initial_learning_rate - self.end_learning_rate
        return span * left**self.power + self.end_learning_rate


class PiecewiseConstantDecay(LearningRateSchedule):
    """One rate up to a step, the next one up to another, and so on.

    Args:
        boundaries: the last step of each rate but the last, rising.
        values: the rates, one more than boundaries.
        name: for configurations.

    Raises:
        ValueError: the numbers of boundaries and values do not fit, or boundaries fall.

    Examples:
        >>> schedule = PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.25])
        >>> [float(schedule(step)) for step in (10, 11, 21)]
        [1.0, 0.5, 0.25]
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"):
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"PiecewiseConstantDecay got {len(boundaries)} boundaries and {len(values)} values, expected "
                "one value more than boundaries. Add the value that holds after the last boundary."
            )
        if list(boundaries) != sorted(boundaries):
            raise ValueError(
                f"PiecewiseConstantDecay: boundaries are {list(boundaries)}, expected rising steps. Sort "
                "them."
            )
        self.boundaries = boundaries
        self.values = values
        self.name = name

    def __call__(self, step: Any) -> jax.Array:
        values = jnp.asarray(self.values, jnp.float32)
        boundaries = jnp.asarray(self.boundaries, jnp.float32)
        return values[jnp.searchsorted(boundaries, as_float(step), side="left")]


def _periods(step: Any, length: float, whole: bool) -> jax.Array:
    periods = as_float(step) / length
    return jnp.floor(periods) if whole else periods
