"""A model as a tree of its modules, containers and variables, every place of a shared one included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import easyflax.nnx as nnx
from easyflax.interop.flax_nnx import adapt_if_flax, refresh_mirrors
from easyflax.nnx.core.filters import Filter, Path, to_predicate
from easyflax.nnx.core.graphdef import NODE, VARIABLE, collect_nodes
from easyflax.nnx.core.walk import walk

__all__ = ["Branch", "dotted", "iter_variables", "module_of", "outline"]


class Branch(NamedTuple):
    """A module or container, and what lies in it.

    Attributes:
        value: the object itself.
        branches: name to module or container, in the order of traversal; the graph may have cycles.
        variables: name to variable.
    """

    value: Any
    branches: dict[Any, Branch]
    variables: dict[Any, nnx.Variable[Any]]


def module_of(model: Any, call: str) -> Any:
    """Returns the module that `model` is, or that it trains if it is an `easyflax.Model`.

    A module of flax.nnx is one too, and values that were set in modules of Flax are there.

    Args:
        model: what the user passed.
        call: the function the user called, for the message.

    Raises:
        TypeError: it is neither.
    """
    module = adapt_if_flax(getattr(model, "trained_module", model))
    if isinstance(module, nnx.Module):
        refresh_mirrors(module)
        return module
    raise TypeError(
        f"{call}: got a model of type {type(model).__name__}, expected an nnx.Module or an easyflax.Model. "
        "Pass the module that holds the variables."
    )


def outline(module: Any) -> Branch:
    """Returns the tree of `module`; its variables are the module's own."""
    found = walk(module)
    rows = found.graphdef.nodes
    branches = [Branch(node, {}, {}) for node in collect_nodes(found.graphdef, (module,))]
    for row, branch in zip(rows, branches, strict=True):
        for key, tag, payload in row.children:
            if tag == NODE:
                branch.branches[key] = branches[payload]
            elif tag == VARIABLE:
                branch.variables[key] = found.variables[payload]
    return branches[found.graphdef.roots[0][1]]


def dotted(path: Path) -> str:
    """Returns the path as one name; a key that is itself a path counts as its parts.

    >>> dotted(("batch_stats", ("kernel", "u"), 0))
    'batch_stats.kernel.u.0'
    """
    return ".".join(dotted(key) if isinstance(key, tuple) else str(key) for key in path)


def iter_variables(module: Any, only: Filter) -> Iterator[tuple[Path, nnx.Variable[Any]]]:
    """Iterates over `(path, variable)` of those that `only` selects, a shared one at each of its places."""
    selected = to_predicate(only)
    # The branches in between are remembered, so that a cycle ends where it closes.
    stack: list[tuple[Path, Branch, tuple[int, ...]]] = [((), outline(module), ())]
    while stack:
        path, branch, above = stack.pop()
        for key, variable in branch.variables.items():
            if selected((*path, key), variable):
                yield (*path, key), variable
        inside = (*above, id(branch.value))
        stack.extend(
            ((*path, key), below, inside)
            for key, below in reversed(branch.branches.items())
            if id(below.value) not in inside
        )
