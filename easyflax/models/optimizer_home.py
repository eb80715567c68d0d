"""Where the state of a compiled model's optimizer is: in the model's training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import easyflax.nnx as nnx
from easyflax.layers.weight_order import in_order_of_weights
from easyflax.train.binding import Binding
from easyflax.train.engine import Engine

__all__ = ["OptimizerHome"]


class OptimizerHome:
    """What an optimizer that is attached to a model asks; see `Optimizer.attach`.

    Args:
        engine: holds the state.
        model: that it is for.
        binding: returns its variables.
    """

    def __init__(self, engine: Engine, model: Any, binding: Callable[[], Binding]):
        self._engine = engine
        self._model = model
        self._binding = binding

    @property
    def iterations(self) -> int:
        """Updates done since the model was compiled."""
        return self._engine.updates_done

    def opt_state(self) -> Any:
        """Returns the optimizer's state; in a fit the next step deletes its arrays."""
        return self._engine.opt_state(self._binding())

    def set_opt_state(self, opt_state: Any) -> None:
        """Replaces the state by copies of the arrays of `opt_state`.

        Raises:
            ValueError: it is the state of another optimizer, or for other parameters.
        """
        self._engine.set_opt_state(opt_state, self._binding())

    def params(self) -> nnx.State:
        """Returns the trained variables, nested as the optimizer sees them."""
        return self._binding().params_state()[1]

    def trainable_variables(self) -> list[nnx.Variable[Any]]:
        """Returns them in the order of the model's weights."""
        return in_order_of_weights(self._model, self.params())
