"""Values in groups by how they are mapped: lists whose axes or shardings can be told before their lengths.

What a function changes is only known once it is traced, but jax wants the axis or sharding of everything that
comes back before. So values travel in one list for each entry (an axis, a sharding) that the user named: a
prefix tree with one entry for each list describes them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from easyflax.nnx.transforms.axes import FilterMap, is_axis


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Numbers:
    """Which group each value is in; a pytree without leaves."""

    numbers: tuple[int, ...]


Grouped = tuple[Numbers, list[list[Any]]]


class Groups:
    """The different entries in trees of axes or shardings, one group for each.

    >>> groups = Groups(0, (None, 1, 0))
    >>> groups.entries
    [0, None, 1]
    >>> grouped = groups.sort("abc", [1, 0, 1])
    >>> grouped[1], groups.join(grouped)
    ([['b'], [], ['a', 'c']], ['a', 'b', 'c'])
    """

    def __init__(self, *trees: Any) -> None:
        self.entries: list[Any] = []
        for entry in jax.tree.leaves(trees, is_leaf=is_axis):
            for one in entry.entries if isinstance(entry, FilterMap) else (entry,):
                if one not in self.entries:
                    self.entries.append(one)

    def sort(self, values: Iterable[Any], entries: Iterable[Any]) -> Grouped:
        """Puts each value into the group of its entry."""
        return self.sort_by_number(values, [self.entries.index(entry) for entry in entries])

    def sort_by_number(self, values: Iterable[Any], numbers: Sequence[int]) -> Grouped:
        """Puts each value into the group of the given number."""
        lists: list[list[Any]] = [[] for _ in self.entries]
        for value, number in zip(values, numbers, strict=True):
            lists[number].append(value)
        return Numbers(tuple(numbers)), lists

    @staticmethod
    def join(grouped: Grouped) -> list[Any]:
        """Returns the values in their order; the reverse of `sort`."""
        numbers, lists = grouped
        rest = list(map(iter, lists))
        return [next(rest[number]) for number in numbers.numbers]
