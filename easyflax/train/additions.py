"""What callbacks put into the compiled step of training, and the state that each keeps there.

A `StepAddition` runs on the device within each update: it sets a learning rate by a schedule, averages the
parameters, looks at gradients. Its callback names it in `configure`, and reads its state between two steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from easyflax.train.binding import Arrays

__all__ = ["StepAddition", "StepShape", "Update", "after_update", "before_update", "start_additions"]


class Update(NamedTuple):
    """An update of the parameters that was just made.

    Attributes:
        params: the trained parameters after it, by path.
        grads: the gradients that it was made of, by path; None where a `train_step` of the model's own took
            them.
    """

    params: Arrays
    grads: Arrays | None


@dataclass(frozen=True)
class StepAddition:
    """The base class of what runs within the compiled step; all methods are pure functions of arrays.

    A subclass is a frozen dataclass too: equal additions share one compiled step, from one `fit` to the next.

    Attributes:
        name: tells the additions of a fit apart; `model.addition_state(name)` is the state.

    Examples:
        >>> import jax.numpy as jnp
        >>> class CountUpdates(StepAddition):
        ...     def init(self, params):
        ...         return jnp.zeros((), jnp.int32)
        ...     def after_update(self, state, update):
        ...         return state + 1
        >>> CountUpdates("updates") == CountUpdates("updates")
        True
    """

    name: str

    needs_gradients: ClassVar[bool] = False

    def init(self, params: Arrays) -> Any:
        """Returns the state before the first step, a pytree of arrays.

        Args:
            params: the trained parameters, by path.
        """
        del params
        return ()

    def before_update(self, state: Any, opt_state: Any) -> Any:
        """Returns the optimizer's state to update with, such as one with another learning rate."""
        del state
        return opt_state

    def after_update(self, state: Any, update: Update) -> Any:
        """Returns the state after an update."""
        del update
        return state


@dataclass(frozen=True)
class StepShape:
    """What callbacks made of the training step; equal shapes share one compiled step.

    Attributes:
        additions: what runs besides.
        accumulates: whether gradients are added up, to be applied when a group of batches is complete.
    """

    additions: tuple[StepAddition, ...] = ()
    accumulates: bool = False


def start_additions(additions: Sequence[StepAddition], params: Arrays) -> dict[str, Any]:
    """Returns the states before the first step, by name."""
    return {one.name: one.init(params) for one in additions}


def before_update(additions: Sequence[StepAddition], states: dict[str, Any], opt_state: Any) -> Any:
    """Returns the optimizer's state as the additions want it, one after the other."""
    for one in additions:
        opt_state = one.before_update(states[one.name], opt_state)
    return opt_state


def after_update(additions: Sequence[StepAddition], states: dict[str, Any], update: Update) -> dict[str, Any]:
    """Returns the states of the additions after an update."""
    return {**states, **{one.name: one.after_update(states[one.name], update) for one in additions}}
