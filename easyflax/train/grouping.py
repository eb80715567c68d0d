"""How many batches come in one group, after which hooks are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from easyflax.train.callback_list import CallbackList

__all__ = ["Grouping", "grouping"]


class Grouping(NamedTuple):
    """How the batches of a loop are grouped.

    Attributes:
        kind: "train", "test" or "predict".
        length: of the longest group.
        is_fixed: whether all groups but the last are that long; else they end where a callback needs its
            hooks.
        is_looped: whether steps run in a loop on the device, be it of one round.
        calls_each: whether hooks are called for each batch of a group.
    """

    kind: str
    length: int
    is_fixed: bool
    is_looped: bool
    calls_each: bool = False

    def most(self, batch: int, callbacks: CallbackList) -> int:
        """Returns how many batches the group may have that begins with this one."""
        if self.is_fixed or self.length == 1:
            return self.length
        needed = callbacks.next_needed(self.kind, batch)
        return self.length if needed is None else min(self.length, needed - batch + 1)


def grouping(
    kind: str,
    callbacks: CallbackList,
    num_batches: int | None,
    asked: int | None,
    steps_together: Callable[[], int],
    *,
    can_go_ahead: bool = False,
) -> Grouping:
    """Returns how batches are grouped; the same for equal loops.

    Callbacks shorten groups, and leave alone what is compiled: a loop of one round computes to the bit what
    one of many does, while a step by itself may round otherwise.

    Args:
        kind: "train", "test" or "predict".
        callbacks: whose hooks are called.
        num_batches: of the loop, None if nobody knows.
        asked: how many batches the user wants in a group, None if that is left to us.
        steps_together: returns how many steps should be one dispatch.
        can_go_ahead: whether steps may be done together that hooks are called for one by one.
    """
    if asked is not None:
        return Grouping(kind, asked, is_fixed=True, is_looped=asked > 1)
    longest = 1 if num_batches == 1 else steps_together()
    calls_each = callbacks.need_each(kind)
    length = 1 if calls_each and not can_go_ahead else longest
    if num_batches is not None:  # a power of two, so that few lengths are compiled for
        length = min(length, 2 ** (num_batches - 1).bit_length())
    return Grouping(kind, length, is_fixed=False, is_looped=longest > 1, calls_each=calls_each)
