"""The parameters in parts, each with an optimizer of its own: how they are told apart, and the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

__all__ = ["Members", "PartedState", "find_parted", "members_of", "merged", "part", "with_state"]

Members = tuple[tuple[int, str], ...]  # the numbers of parameters among all, and their names


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PartedState:
    """What optimizers of parts remember.

    Attributes:
        states: of the optimizers, None for one without parameters.
        members: what is whose.
    """

    states: tuple[Any, ...]
    members: tuple[Members, ...] = field(metadata={"static": True})


def members_of(rows: Sequence[int], paths: Sequence[str]) -> Members:
    """Returns the parameters of a part, under names that sort as they stand and that end with the paths."""
    return tuple((row, f"{row:04}.{paths[row]}") for row in rows)


def part(leaves: Sequence[Any], members: Members) -> dict[str, Any]:
    """Returns the parameters of a part by name."""
    return {name: leaves[row] for row, name in members}


def merged(parts: Sequence[dict[str, Any]], members: Sequence[Members]) -> list[Any]:
    """Returns the values of all parts in the order of the parameters."""
    found = {row: one[name] for one, mine in zip(parts, members, strict=True) for row, name in mine}
    return [found[row] for row in range(len(found))]


def find_parted(opt_state: Any) -> PartedState | None:
    """Returns the part of an optimizer's state that is a `PartedState`, or None."""
    return next((node for node in jax.tree.leaves(opt_state, is_leaf=_is_parted) if _is_parted(node)), None)


def with_state(opt_state: Any, number: int, new: Any) -> Any:
    """Returns an optimizer's state with the one of the part of that number replaced."""

    def changed(node: Any) -> Any:
        if not _is_parted(node):
            return node
        return PartedState((*node.states[:number], new, *node.states[number + 1 :]), node.members)

    return jax.tree.map(changed, opt_state, is_leaf=_is_parted)


def _is_parted(node: Any) -> bool:
    return isinstance(node, PartedState)
