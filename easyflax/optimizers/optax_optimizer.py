"""An optax transformation as an optimizer."""

from __future__ import annotations

from typing import Any

import optax

from easyflax.nnx.training.optimizer import check_transformation
from easyflax.optimizers import wrappers
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.learning_rate import get_learning_rate, set_learning_rate

__all__ = ["OptaxOptimizer"]


class OptaxOptimizer(Optimizer):
    """Any optax transformation, with what optimizers have besides: own state, use in a model.

    Its learning rate can be read and set if the transformation keeps it in its state, as one made by
    `optax.inject_hyperparams` does.

    Args:
        transformation: from gradients to updates.
        name: see `Optimizer`.

    Raises:
        TypeError: it is no optax transformation.

    Examples:
        >>> optimizer = OptaxOptimizer(optax.inject_hyperparams(optax.sgd)(learning_rate=0.5))
        >>> state = optimizer.init({"w": 1.0})
        >>> float(state.hyperparams["learning_rate"])
        0.5
    """

    def __init__(self, transformation: optax.GradientTransformation, name: str | None = None):
        check_transformation("OptaxOptimizer got", transformation)
        super().__init__(0.0, name=name)
        self._wrapped = transformation
        self._learning_rate: Any = None  # one that was set before there is a state

    def init(self, params: optax.Params) -> Any:
        state = super().init(params)
        return state if self._learning_rate is None else set_learning_rate(state, self._learning_rate)

    def _make_transformation(self) -> optax.GradientTransformationExtraArgs:
        rule = wrappers.with_clipping(
            self._wrapped,
            clipnorm=self.clipnorm,
            clipvalue=self.clipvalue,
            global_clipnorm=self.global_clipnorm,
        )
        return wrappers.averaged(rule, self.ema_momentum) if self.use_ema else rule

    def _initial_rate(self) -> Any:
        if self._learning_rate is not None:
            return self._learning_rate
        return float(get_learning_rate(self._wrapped.init({})))

    def _set_initial_rate(self, rate: Any) -> None:
        set_learning_rate(self._wrapped.init({}), rate)  # raises where it cannot be set
        self._learning_rate = float(rate)

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError(
            "An optax transformation was to be written as a configuration, expected an ef.optimizers object: "
            "functions do not say what they were made of. Use for example ef.optimizers.Adam."
        )
