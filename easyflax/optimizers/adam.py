"""Adam and what was made of it: AdamW, Nadam, Adamax, Lamb."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import optax

from easyflax.optimizers.arguments import CommonArguments, check_at_least, check_share
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.transforms import (
    descend,
    scale_by_adam,
    scale_by_adamax,
    scale_by_scheduled_nadam,
)

__all__ = ["Adam", "AdamW", "Adamax", "Lamb", "Nadam"]


class _OfMoments(Optimizer):
    """What these optimizers share: two decay rates and a small number."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        check_share(type(self).__name__, beta_1=beta_1, beta_2=beta_2)
        check_at_least(type(self).__name__, 0, epsilon=epsilon)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon


class Adam(_OfMoments):
    """The running mean of the gradients over the root of their running mean square, bias-corrected.

    `epsilon` is added to the root before the correction, as in Keras ("epsilon hat" in the paper); optax adds
    it after, which differs where gradients are as small as `epsilon`.

    Args:
        learning_rate: see `Optimizer`.
        beta_1: share of the old mean in the new one.
        beta_2: share of the old mean square in the new one.
        epsilon: keeps the quotient finite.
        amsgrad: whether to divide by the largest mean square so far.
        **common: see `Optimizer`.

    Source: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980; Reddi et al. 2018,
    https://arxiv.org/abs/1904.09237
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **common)
        self.amsgrad = amsgrad

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        adam = scale_by_adam(self.beta_1, self.beta_2, self.epsilon, amsgrad=self.amsgrad)
        return optax.chain(adam, descend(learning_rate))


class AdamW(Adam):
    """Adam with weight decay beside the gradient step.

    Args:
        learning_rate: see `Optimizer`.
        weight_decay: share of each parameter, times the learning rate, that every step takes away.
        beta_1: see `Adam`.
        beta_2: likewise.
        epsilon: likewise.
        amsgrad: likewise.
        **common: see `Optimizer`.

    Raises:
        ValueError: `weight_decay` is None.

    Source: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Any,
    ):
        if weight_decay is None:
            raise ValueError(
                "AdamW: weight_decay is None, expected a number. Pass one, or use Adam, which decays nothing."
            )
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **common)


class Nadam(_OfMoments):
    """Adam with Nesterov momentum, and Dozat's schedule for it.

    Args:
        learning_rate: see `Optimizer`.
        beta_1: see `Adam`.
        beta_2: likewise.
        epsilon: likewise; added after the correction.
        **common: see `Optimizer`.

    Source: Dozat 2016, https://cs229.stanford.edu/proj2015/054_report.pdf
    """

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.chain(
            scale_by_scheduled_nadam(self.beta_1, self.beta_2, self.epsilon), descend(learning_rate)
        )


class Adamax(_OfMoments):
    """Adam with the running maximum of the gradients in the place of their mean square.

    Args:
        learning_rate: see `Optimizer`.
        beta_1: see `Adam`.
        beta_2: how much of the maximum stays.
        epsilon: keeps the quotient finite.
        **common: see `Optimizer`.

    Source: Kingma and Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980
    """

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.chain(scale_by_adamax(self.beta_1, self.beta_2, self.epsilon), descend(learning_rate))


class Lamb(_OfMoments):
    """Adam whose step is scaled, array by array, to the norm of the parameters.

    Args:
        learning_rate: see `Optimizer`.
        beta_1: see `Adam`.
        beta_2: likewise.
        epsilon: likewise; added after the correction.
        **common: see `Optimizer`.

    Source: You et al. 2020, https://arxiv.org/abs/1904.00962
    """

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        adam = optax.scale_by_adam(self.beta_1, self.beta_2, self.epsilon)
        return optax.chain(adam, optax.scale_by_trust_ratio(), descend(learning_rate))
