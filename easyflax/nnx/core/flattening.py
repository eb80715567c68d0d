"""A graph of modules as a structure and a flat sequence of leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from easyflax.nnx.core.graph import merge, split
from easyflax.nnx.core.graphdef import GraphDef
from easyflax.nnx.core.state import FlatState, State, to_flat_state

__all__ = ["flatten", "unflatten"]


def flatten(node: Any, /, *, with_paths: bool = True) -> tuple[GraphDef[Any], Any]:
    """Returns the structure of a module, and its variables (and arrays without one) in the order of their
    paths.

    >>> from easyflax import nnx
    >>> graphdef, flat = nnx.flatten(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> flat.paths
    (('bias',), ('kernel',))

    Args:
        node: a module, variable, or container of these.
        with_paths: return a `FlatState`; otherwise a list without the paths.
    """
    graphdef, state = split(node)
    flat = to_flat_state(state) if isinstance(state, State) else FlatState([((), state)])
    return graphdef, flat if with_paths else flat.leaves


def unflatten(graphdef: GraphDef[Any], leaves: Any, /, *, copy_variables: bool = False) -> Any:
    """Puts a module together from what `flatten` returned.

    Args:
        graphdef: the structure.
        leaves: a `FlatState`, a `State`, or a list of leaves in the order of their paths.
        copy_variables: make new variables, in place of using those of `leaves`.

    Raises:
        ValueError: there are more or fewer leaves than the structure has.
    """
    if not isinstance(leaves, Sequence) or isinstance(leaves, FlatState):
        return merge(graphdef, leaves, copy=copy_variables)
    found = graphdef.paths()
    paths = FlatState([(path, None) for path in [*found.variables, *found.arrays]]).paths
    if len(paths) != len(leaves):
        raise ValueError(
            f"unflatten got {len(leaves)} leaves, expected the {len(paths)} of this graphdef. Pass all the "
            "leaves that flatten returned, in the same order."
        )
    return merge(graphdef, FlatState(zip(paths, leaves, strict=True), sort=False), copy=copy_variables)
