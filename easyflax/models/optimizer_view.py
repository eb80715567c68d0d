"""`model.optimizer`: what one may ask and change about the optimizer."""

from __future__ import annotations

from collections.abc import Callable

import optax

from easyflax.train.binding import Binding
from easyflax.train.engine import Engine


class OptimizerView:
    """The optimizer of a compiled model.

    Args:
        engine: holds the optimizer state.
        binding: returns the model it is for.
    """

    def __init__(self, engine: Engine, binding: Callable[[], Binding]):
        self._engine = engine
        self._binding = binding

    @property
    def transformation(self) -> optax.GradientTransformation:
        """The optax transformation."""
        return self._engine.optimizer

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step; setting it takes effect there and compiles nothing anew.

        Raises:
            ValueError: the optax transformation keeps no learning rate in its state.
            TypeError: set while a schedule decides it.
        """
        return self._engine.learning_rate(self._binding())

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._engine.set_learning_rate(value, self._binding())

    @property
    def iterations(self) -> int:
        """Steps done since the model was compiled."""
        return self._engine.steps_done
