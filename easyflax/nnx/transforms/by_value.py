"""States and variables that a loop carries by value: each step returns new ones in place of those it got.

Gradients are summed up so: `jax.tree.map(jnp.add, total, grads)` is a new `State`. Outside of the step such
an object is a `Box`, which jax sees as its arrays; the caller's object is left alone, and the loop returns a
new one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax

from easyflax.nnx.core.state import State
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.transforms.kept import name_of
from easyflax.nnx.transforms.packing import is_object


class NewObjects(Exception):
    """A step returned new states or variables, at these positions among the leaves of what is carried."""

    def __init__(self, positions: Collection[int]) -> None:
        super().__init__(positions)
        self.positions = positions


@jax.tree_util.register_pytree_node_class
class Box:
    """A state or variable as a pytree of its arrays."""

    def __init__(self, leaves: Any, treedef: Any) -> None:
        self._leaves = leaves
        self._treedef = treedef

    def open(self) -> Any:
        """Returns a new state or variable."""
        return self._treedef.unflatten(self._leaves)

    def tree_flatten(self) -> tuple[Any, Any]:
        """Returns the arrays, and the rest."""
        return self._leaves, self._treedef

    @classmethod
    def tree_unflatten(cls, treedef: Any, leaves: Any) -> Box:
        """Returns a box of these arrays."""
        return cls(leaves, treedef)


def box(tree: Any, positions: Collection[int]) -> Any:
    """Puts the states and variables at these positions among the leaves of a tree into boxes."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_object)
    for i in positions:
        if i < len(leaves) and isinstance(leaves[i], (State, Variable)):
            leaves[i] = Box(*jax.tree.flatten(leaves[i]))
    return treedef.unflatten(leaves)


def unbox(tree: Any) -> Any:
    """Replaces boxes by new states and variables."""
    return jax.tree.map(
        lambda leaf: leaf.open() if isinstance(leaf, Box) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, Box) or is_object(leaf),
    )


@dataclasses.dataclass(frozen=True)
class OnBoxes:
    """The function of a step, which gets and returns boxes; compares by value, as what is kept for it is.

    Attributes:
        carry_out: the position of the carry in the output; None for all of it.
    """

    fun: Callable[..., Any]
    carry_in: int
    carry_out: int | None
    positions: frozenset[int]

    def __call__(self, *args: Any) -> Any:
        """Calls the function on what is in the boxes."""
        out = self.fun(*(unbox(arg) if i == self.carry_in else arg for i, arg in enumerate(args)))
        return replace_carry(out, self.carry_out, lambda carry: box(carry, self.positions))

    @property
    def __name__(self) -> str:
        return name_of(self.fun)


def replace_carry(out: Any, carry_out: int | None, change: Callable[[Any], Any]) -> Any:
    """Returns an output with its carry changed."""
    if carry_out is None:
        return change(out)
    if not isinstance(out, tuple):
        return out  # an error, which scan explains
    return tuple(change(part) if i == carry_out else part for i, part in enumerate(out))
