"""Optimizers that divide by the root of mean or summed squares: RMSprop, Adagrad, Adadelta."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import optax

from easyflax.optimizers.arguments import CommonArguments, check_at_least, check_share
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.transforms import descend

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


class RMSprop(Optimizer):
    """Gradients divided by the root of their running mean square (of their variance when `centered`).

    Args:
        learning_rate: see `Optimizer`.
        rho: share of the old mean square in the new one.
        momentum: share of the last step in the next one.
        epsilon: added to the mean square.
        centered: whether to divide by the standard deviation.
        **common: see `Optimizer`.

    Source: Tieleman and Hinton 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        check_share("RMSprop", rho=rho, momentum=momentum)
        check_at_least("RMSprop", 0, epsilon=epsilon)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        scale = optax.scale_by_stddev if self.centered else optax.scale_by_rms
        rules = [scale(self.rho, self.epsilon), descend(learning_rate)]
        return optax.chain(*rules, *([optax.trace(self.momentum)] if self.momentum else []))


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all their squares so far.

    Args:
        learning_rate: see `Optimizer`.
        initial_accumulator_value: what the sums begin with.
        epsilon: added to the sum.
        **common: see `Optimizer`.

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        check_at_least("Adagrad", 0, initial_accumulator_value=initial_accumulator_value, epsilon=epsilon)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        scale = optax.scale_by_rss(self.initial_accumulator_value, self.epsilon)
        return optax.chain(scale, descend(learning_rate))


class Adadelta(Optimizer):
    """Gradients times the ratio of the running root mean squares of past steps and past gradients.

    Args:
        learning_rate: see `Optimizer`; 1.0 is the paper's.
        rho: share of the old mean squares in the new ones.
        epsilon: added to the mean squares.
        **common: see `Optimizer`.

    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        check_share("Adadelta", rho=rho)
        check_at_least("Adadelta", 0, epsilon=epsilon)
        self.rho = rho
        self.epsilon = epsilon

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_adadelta(self.rho, self.epsilon), descend(learning_rate))
