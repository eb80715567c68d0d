"""Optimizers that follow the gradient, its running mean or its sign: SGD and Lion."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import optax

from easyflax.optimizers.arguments import CommonArguments, check_share
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.transforms import descend

__all__ = ["SGD", "Lion"]


class SGD(Optimizer):
    """Gradient descent, with momentum where `momentum` is above zero.

    The learning rate stands inside the momentum, as in Keras: a new rate acts on new gradients only.

    Args:
        learning_rate: see `Optimizer`.
        momentum: share of the last step in the next one.
        nesterov: whether the gradient counts as taken where the momentum leads.
        **common: see `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        check_share("SGD", momentum=momentum)
        self.momentum = momentum
        self.nesterov = nesterov

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        if not self.momentum:
            return descend(learning_rate)
        return optax.chain(descend(learning_rate), optax.trace(self.momentum, nesterov=self.nesterov))


class Lion(Optimizer):
    """The sign of an interpolated momentum.

    Args:
        learning_rate: see `Optimizer`.
        beta_1: share of the momentum in the direction.
        beta_2: share of the old momentum in the new one.
        **common: see `Optimizer`.

    Source: Chen et al. 2023, https://arxiv.org/abs/2302.06675
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        check_share("Lion", beta_1=beta_1, beta_2=beta_2)
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_lion(self.beta_1, self.beta_2), descend(learning_rate))
