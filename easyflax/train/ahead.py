"""Steps that the device has been given, and the host goes through one by one for the hooks of callbacks.

A hook of batches costs little itself. What it costs is that each step has to be a dispatch of its own, in
case the hook looks at the state after that step, or changes it. Most do not. So steps are dispatched
together, and the hooks called for one after the other, each with the logs of its step. The first time one
looks, the state after its step is computed once more from a copy of the one before all, to the bit the same
since it is the same program; from then on steps go one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from easyflax.train.accumulation import Group
from easyflax.train.dispatch import PackedState
from easyflax.train.feed import Part
from easyflax.train.packing import Packed

__all__ = ["Ahead", "counted_groups"]


@dataclass
class Ahead:
    """Steps that were dispatched together.

    Attributes:
        part: the batches.
        before: a copy of the state before all of them.
        placed: the batches on the devices.
        flags: after which of them gradients that wait are applied.
        groups: the group of batches whose gradients wait, after each.
        logs: packed, of all of them.
        done: how many of them the host knows as done.
    """

    part: Part
    before: PackedState
    placed: Any
    flags: np.ndarray
    groups: list[Group]
    logs: Packed
    done: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the host has gone through all of them."""
        return self.done == self.part.count


def counted_groups(group: Group, number: int) -> tuple[list[bool], list[Group]]:
    """Returns whether each of some batches is the last of a group, and the group after each."""
    are_last, groups = [], []
    running = Group(group.size, group.left, group.waiting)
    for _ in range(number):
        are_last.append(running.add())
        groups.append(Group(running.size, running.left, running.waiting))
    return are_last, groups
