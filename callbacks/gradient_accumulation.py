"""Makes one update of several batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from easyflax.train.accumulation import PENDING, Pending
from easyflax.train.callback import Callback
from easyflax.train.plan import Plan

__all__ = ["GradientAccumulation"]


class GradientAccumulation(Callback):
    """Adds up the gradients of several batches, and updates the parameters once for all of them.

    The update is the one that all their rows would make in one batch, also where batches have unequal
    numbers of rows, masks or weights. With several outputs whose losses are means over different numbers of
    values, each batch counts as much as it has rows. A group that the end of an epoch leaves incomplete is
    applied there. Batch normalization still looks at one batch at a time; schedules count updates.

    Args:
        steps: how many batches make an update; or a dict from the number of an epoch, counted from 0, to how
            many make one from that epoch on (one batch before the first).

    Raises:
        TypeError: `steps` is neither an integer nor a dict of integers.
        ValueError: a number is less than 1, or an epoch less than 0; in `fit`, the model has a `train_step`
            of its own, or accumulation is asked for elsewhere, too.

    Examples:
        >>> GradientAccumulation(4).accumulation
        {0: 4}
        >>> GradientAccumulation({0: 4, 10: 8}).accumulation
        {0: 4, 10: 8}
    """

    def __init__(self, steps: int | Mapping[int, int]):
        super().__init__()
        given = steps if isinstance(steps, Mapping) else {0: steps}
        self.accumulation = {_checked(first, 0): _checked(number, 1) for first, number in given.items()}

    def configure(self, plan: Plan) -> Plan:
        if plan.accumulation:
            raise ValueError(
                f"GradientAccumulation: the fit accumulates already, {dict(plan.accumulation)}, expected it "
                "from one place. Leave out this callback, the other one, or compile's "
                "gradient_accumulation_steps."
            )
        return replace(plan, accumulation=self.accumulation)

    def state_dict(self) -> dict[str, Any]:
        if not self._accumulates:
            return {}
        pending: Pending = self.model.addition_state(PENDING)
        return pending._asdict() if int(pending.batches) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            self.model.set_addition_state(PENDING, Pending(**state))

    @property
    def _accumulates(self) -> bool:
        return any(number > 1 for number in self.accumulation.values())


def _checked(number: Any, least: int) -> int:
    what = "an epoch" if least == 0 else "a number of batches"
    advice = "Pass for example 4, or {0: 4, 10: 8}."
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise TypeError(f"GradientAccumulation: got {number!r} as {what}, expected an integer. {advice}")
    if int(number) < least:
        raise ValueError(f"GradientAccumulation: got {number} as {what}, expected at least {least}. {advice}")
    return int(number)
