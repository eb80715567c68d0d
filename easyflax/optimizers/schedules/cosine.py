"""Schedules along a cosine: once, with a warm-up, or again and again."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.optimizers.arguments import check_at_least
from easyflax.optimizers.schedules.base import LearningRateSchedule, as_float, check_steps

__all__ = ["CosineDecay", "CosineDecayRestarts"]


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the highest rate to the lowest, after a straight rise where there is a warm-up.

    Args:
        initial_learning_rate: of the first step.
        decay_steps: how long the rate falls, not counting the warm-up.
        alpha: the lowest rate, as a share of the highest.
        name: for configurations.
        warmup_target: the highest rate, to which it rises from `initial_learning_rate`; None for no warm-up.
        warmup_steps: how long it rises.

    Raises:
        ValueError: `decay_steps` is not above zero, or `warmup_steps` is negative.

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ):
        check_steps("CosineDecay", decay_steps=decay_steps)
        check_at_least("CosineDecay", 0, warmup_steps=warmup_steps)
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> jax.Array:
        step = as_float(step)
        if self.warmup_target is None:
            return self.initial_learning_rate * self._share(step)
        rise = (self.warmup_target - self.initial_learning_rate) * (step / max(self.warmup_steps, 1))
        fall = self.warmup_target * self._share(step - self.warmup_steps)
        return jnp.where(step < self.warmup_steps, self.initial_learning_rate + rise, fall)

    def _share(self, step: jax.Array) -> jax.Array:
        """The rate as a share of the highest, so many steps after that."""
        done = jnp.minimum(step, self.decay_steps) / self.decay_steps
        return (1 - self.alpha) * _half_cosine(done) + self.alpha


class CosineDecayRestarts(LearningRateSchedule):
    """Half cosines one after the other, each longer and starting lower than the last.

    Args:
        initial_learning_rate: of the first step.
        first_decay_steps: how long the first one takes.
        t_mul: how much longer each is than the one before.
        m_mul: how high each begins, as a share of the one before.
        alpha: the lowest rate, as a share of `initial_learning_rate`.
        name: for configurations.

    Raises:
        ValueError: `first_decay_steps` or `t_mul` is not above zero.

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ):
        check_steps("CosineDecayRestarts", first_decay_steps=first_decay_steps, t_mul=t_mul)
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.alpha = alpha
        self.name = name

    def __call__(self, step: Any) -> jax.Array:
        done = as_float(step) / self.first_decay_steps
        if self.t_mul == 1:
            restarts = jnp.floor(done)
            done = done - restarts
        else:  # lengths are a geometric series
            t_mul = jnp.asarray(self.t_mul, jnp.float32)
            restarts = jnp.floor(jnp.log(1 - done * (1 - t_mul)) / jnp.log(t_mul))
            done = (done - (1 - t_mul**restarts) / (1 - t_mul)) / t_mul**restarts
        height = jnp.asarray(self.m_mul, jnp.float32) ** restarts
        return self.initial_learning_rate * ((1 - self.alpha) * height * _half_cosine(done) + self.alpha)


def _half_cosine(done: jax.Array) -> jax.Array:
    """From 1 to 0, as `done` goes from 0 to 1."""
    return 0.5 * (1 + jnp.cos(jnp.pi * done))
