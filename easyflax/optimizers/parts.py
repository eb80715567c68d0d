"""An optimizer inside of another one: its state is a part of the outer one's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from easyflax.nnx.training.variable_trees import is_variable
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.learning_rate import rate_holders
from easyflax.optimizers.optax_optimizer import OptaxOptimizer

__all__ = ["Part", "as_inner"]


class Part:
    """The home of an inner optimizer, see `Stateful.attach`.

    Args:
        outer: the optimizer around it, which has a state.
        get: returns the part of a state of `outer`.
        replace: returns a state of `outer` with another part.
        params: returns the variables that the part is for.
    """

    def __init__(
        self,
        outer: Optimizer,
        get: Callable[[Any], Any],
        replace: Callable[[Any, Any], Any],
        params: Callable[[], Any],
    ):
        self._outer = outer
        self._get = get
        self._replace = replace
        self.params = params

    def opt_state(self) -> Any:
        """Returns the inner state."""
        return self._get(self._outer._opt_state())

    def set_opt_state(self, opt_state: Any) -> None:
        """Replaces the inner state."""
        self._outer._set_opt_state(self._replace(self._outer._opt_state(), opt_state))

    def trainable_variables(self) -> list[Any]:
        """Returns the variables that the part is for, in the order of the outer one's."""
        inner = {id(one) for one in jax.tree.leaves(self.params(), is_leaf=is_variable)}
        return [one for one in self._outer._all_variables() if id(one) in inner]

    @property
    def iterations(self) -> Any:
        """Steps that the inner optimizer did."""
        holders = rate_holders(self.opt_state())
        return holders[0].count if len(holders) == 1 else self._outer._steps


def as_inner(owner: str, optimizer: Any) -> Optimizer:
    """Returns an optimizer of the same settings without a state, to stand in another one.

    Raises:
        TypeError: it is no optimizer.
    """
    if not isinstance(optimizer, Optimizer):
        if isinstance(optimizer, type) or not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
            shown = getattr(optimizer, "__name__", repr(optimizer))
            raise TypeError(
                f"{owner} got {shown} as an optimizer, expected an object such as ef.optimizers.Adam(0.001). "
                "Pass one."
            )
        optimizer = OptaxOptimizer(optimizer)
    return optimizer.without_state()
