"""Keras's optimizers by name, argument and default, each a chain of optax transformations.

Each class states its rule only; learning rate, weight decay and clipping are common to all (`Optimizer`).
"""

from __future__ import annotations

import dataclasses

import jax
import optax

from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.transforms import descend, scale_by_scheduled_nadam

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lamb",
    "Lion",
    "Nadam",
    "RMSprop",
]


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, with momentum where `momentum` is above zero.

    The learning rate stands inside the momentum, as in Keras: a new rate acts on new gradients only.
    """

    learning_rate: float | optax.Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        if not self.momentum:
            return descend(learning_rate)
        return optax.chain(descend(learning_rate), optax.trace(self.momentum, nesterov=self.nesterov))


@dataclasses.dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradients divided by the root of their running mean square (of their variance when `centered`).

    Source: Tieleman and Hinton 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf
    """

    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        scale = optax.scale_by_stddev if self.centered else optax.scale_by_rms
        rules = [scale(self.rho, self.epsilon), descend(learning_rate)]
        return optax.chain(*rules, *([optax.trace(self.momentum)] if self.momentum else []))


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """The running mean of the gradients over the root of their running mean square, bias-corrected.

    `epsilon` is added to the corrected root, as in the paper and in optax; Keras adds it before the
    correction, which differs where gradients are as small as `epsilon`.

    Source: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(self.beta_1, self.beta_2, self.epsilon), descend(learning_rate)
        )


@dataclasses.dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay beside the gradient step.

    Source: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
    """

    weight_decay: float | None = 0.004


@dataclasses.dataclass(frozen=True)
class Nadam(Adam):
    """Adam with Nesterov momentum, and Dozat's schedule for it.

    Source: Dozat 2016, https://cs229.stanford.edu/proj2015/054_report.pdf
    """

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.chain(
            scale_by_scheduled_nadam(self.beta_1, self.beta_2, self.epsilon), descend(learning_rate)
        )


@dataclasses.dataclass(frozen=True)
class Adamax(Adam):
    """Adam with the running maximum of the gradients in the place of their mean square.

    Source: Kingma and Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980
    """

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adamax(self.beta_1, self.beta_2, self.epsilon), descend(learning_rate)
        )


@dataclasses.dataclass(frozen=True)
class Lamb(Adam):
    """Adam whose step is scaled, array by array, to the norm of the parameters.

    Source: You et al. 2020, https://arxiv.org/abs/1904.00962
    """

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        adam = optax.scale_by_adam(self.beta_1, self.beta_2, self.epsilon)
        return optax.chain(adam, optax.scale_by_trust_ratio(), descend(learning_rate))


@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """The sign of an interpolated momentum.

    Source: Chen et al. 2023, https://arxiv.org/abs/2302.06675
    """

    beta_1: float = 0.9
    beta_2: float = 0.99

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_lion(self.beta_1, self.beta_2), descend(learning_rate))


@dataclasses.dataclass(frozen=True)
class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all their squares so far.

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html
    """

    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        scale = optax.scale_by_rss(self.initial_accumulator_value, self.epsilon)
        return optax.chain(scale, descend(learning_rate))


@dataclasses.dataclass(frozen=True)
class Adadelta(Optimizer):
    """Gradients times the ratio of the running root mean squares of past steps and past gradients.

    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701
    """

    rho: float = 0.95
    epsilon: float = 1e-7

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_adadelta(self.rho, self.epsilon), descend(learning_rate))
