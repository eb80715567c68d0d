"""What a fit is to do, as callbacks see it before it begins, and may change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from easyflax.data import Source
from easyflax.train.additions import StepAddition, StepShape

__all__ = ["Plan", "Validation", "checked_plan"]


@dataclass(frozen=True)
class Validation:
    """What a fit validates on.

    Attributes:
        source: the validation data.
        num_steps: batches of it, None for all.
        is_due: says for an epoch's number, from 0, whether validation follows it.
    """

    source: Source
    num_steps: int | None
    is_due: Callable[[int], bool]


@dataclass(frozen=True)
class Plan:
    """What a fit is to do; `Callback.configure` is given it, and returns it or another one.

    Change it with `dataclasses.replace` and the methods below.

    Attributes:
        source: the training data; may be wrapped in another `easyflax.data.Source`.
        epochs: the number of the epoch to stop before.
        initial_epoch: the number of the first epoch.
        steps_per_epoch: batches an epoch, as the user said; None for one pass over the data.
        validation: what to validate on, if anything.
        accumulation: how many batches make an update, by the number of the epoch from which on that holds;
            one batch before the first such epoch.
        additions: what runs within the compiled step.
        raises_nonfinite: whether a loss that is NaN or infinite ends the fit with an error.
        devices: those that train; changing it changes nothing.

    Examples:
        >>> from easyflax.data import as_source
        >>> import numpy as np
        >>> plan = Plan(as_source(np.zeros((100, 2)), batch_size=10), epochs=3, accumulation={0: 2, 2: 4})
        >>> [plan.batches_an_update(epoch) for epoch in range(3)], plan.updates_before(3)
        ([2, 2, 4], 13)
    """

    source: Source
    epochs: int
    initial_epoch: int = 0
    steps_per_epoch: int | None = None
    validation: Validation | None = None
    accumulation: Mapping[int, int] = field(default_factory=dict)
    additions: tuple[StepAddition, ...] = ()
    raises_nonfinite: bool = True
    devices: tuple[Any, ...] = ()

    @property
    def known_steps(self) -> int | None:
        """Batches an epoch as far as that is known beforehand."""
        return self.source.num_batches if self.steps_per_epoch is None else self.steps_per_epoch

    def batches_an_update(self, epoch: int) -> int:
        """Returns how many batches make an update in an epoch."""
        begun = [first for first in self.accumulation if first <= epoch]
        return self.accumulation[max(begun)] if begun else 1

    def updates_before(self, epoch: int) -> int | None:
        """Returns how many updates all epochs before this one make; None if nobody knows beforehand."""
        steps = self.known_steps
        if steps is None:
            return None if epoch else 0
        return sum(-(-steps // self.batches_an_update(before)) for before in range(epoch))

    def adding(self, addition: StepAddition) -> Plan:
        """Returns the plan with something more in the compiled step.

        Raises:
            TypeError: it is no `StepAddition`.
            ValueError: there is one of that name.
        """
        if not isinstance(addition, StepAddition):
            raise TypeError(
                f"plan.adding got {addition!r}, expected a StepAddition. Derive a frozen dataclass from it."
            )
        if any(one.name == addition.name for one in self.additions):
            raise ValueError(
                f"Two callbacks add {addition.name!r} to the training step, expected one. Leave one of them "
                "out, or give them names of their own."
            )
        return replace(self, additions=(*self.additions, addition))

    @property
    def shape(self) -> StepShape:
        """What the training step has to be like."""
        return StepShape(self.additions, any(number > 1 for number in self.accumulation.values()))


def checked_plan(plan: Any, callback: Any) -> Plan:
    """Returns what a callback's `configure` returned.

    Raises:
        TypeError: it is no plan.
    """
    if not isinstance(plan, Plan):
        raise TypeError(
            f"{type(callback).__name__}.configure returned {plan!r}, expected the plan. End it with "
            "`return plan`."
        )
    return plan
