"""Where the state of a compiled model's optimizer is: in the model's training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import easyflax.nnx as nnx
from easyflax.train.binding import Binding
from easyflax.train.engine import Engine

__all__ = ["OptimizerHome"]


class OptimizerHome:
    """What an optimizer that is attached to a model asks; see `Optimizer.attach`.

    Args:
        engine: holds the state.
        binding: returns the model that it is for.
    """

    def __init__(self, engine: Engine, binding: Callable[[], Binding]):
        self._engine = engine
        self._binding = binding

    @property
    def iterations(self) -> int:
        """Steps done since the model was compiled."""
        return self._engine.steps_done

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
