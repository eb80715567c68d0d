"""Ftrl: follow the regularized leader."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import optax

from easyflax.optimizers.arguments import CommonArguments, check_at_least
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.transforms import map_to_several
from easyflax.optimizers.wrappers import needed

__all__ = ["Ftrl"]


class FtrlState(NamedTuple):
    """What `Ftrl` remembers of each parameter."""

    accumulator: Any  # sums of squared gradients
    linear: Any  # the coefficients of the linear term


class Ftrl(Optimizer):
    """The parameters that fit all gradients so far best, with a penalty on their size.

    Suits shallow models with many sparse features; an L1 penalty sets parameters to exactly zero.

    Args:
        learning_rate: see `Optimizer`; above zero.
        learning_rate_power: how the rate falls with the summed squares, at most zero; zero for a fixed rate.
        initial_accumulator_value: what the sums begin with.
        l1_regularization_strength: of the absolute values.
        l2_regularization_strength: of the squares, which steadies the steps.
        l2_shrinkage_regularization_strength: of the squares, added to the gradient.
        beta: the paper's beta, which lowers the first rates.
        **common: see `Optimizer`.

    Source: McMahan et al. 2013, https://research.google.com/pubs/archive/41159.pdf
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        check_at_least(
            "Ftrl",
            0,
            initial_accumulator_value=initial_accumulator_value,
            l1_regularization_strength=l1_regularization_strength,
            l2_regularization_strength=l2_regularization_strength,
            l2_shrinkage_regularization_strength=l2_shrinkage_regularization_strength,
            beta=beta,
        )
        if learning_rate_power > 0:
            raise ValueError(
                f"Ftrl: learning_rate_power is {learning_rate_power}, expected a number of at most zero. "
                "Pass for example -0.5."
            )
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        def init(params: Any) -> FtrlState:
            first = self.initial_accumulator_value
            return FtrlState(
                jax.tree.map(lambda param: jnp.full_like(param, first), params),
                jax.tree.map(jnp.zeros_like, params),
            )

        def step(grad: Any, param: Any, old: Any, linear: Any) -> tuple[Any, Any, Any]:
            rate = learning_rate.astype(param.dtype)
            sums = old + jnp.square(grad)
            power = -self.learning_rate_power
            shrinkage = 2 * self.l2_shrinkage_regularization_strength * param
            linear = linear + grad + shrinkage - (sums**power - old**power) / rate * param
            l2 = self.l2_regularization_strength + self.beta / (2 * rate)
            quadratic = sums**power / rate + 2 * l2
            l1 = self.l1_regularization_strength
            new = (jnp.clip(linear, -l1, l1) - linear) / quadratic
            return new - param, sums, linear

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, FtrlState]:
            params = needed(params, "Ftrl")
            updates, sums, linear = map_to_several(3, step, updates, params, *state)
            return updates, FtrlState(sums, linear)

        return optax.GradientTransformation(init, update)
