"""Which parameters are trained: what `trainable` on modules means.

Any module may have an attribute `trainable`, True or False: of all modules on the way to a variable the
innermost one that has it decides. A variable that lies in several places is trained if one of them says so.
Batch normalizations that are frozen (and others with `use_running_average`) use their running averages, and
leave them as they are, in training too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import easyflax.nnx as nnx
from easyflax.nnx.core.graphdef import NODE, STATIC, VARIABLE, GraphDef, NodeDef, collect_nodes
from easyflax.nnx.core.walk import walk

__all__ = ["frozen_variables", "set_mode", "set_trainable"]


def set_trainable(module: nnx.Module, value: bool) -> None:
    """Sets `trainable` of a module, and of those inside that have it.

    Raises:
        TypeError: `value` is no bool.
    """
    if not isinstance(value, bool):
        raise TypeError(
            f"{type(module).__name__}.trainable was set to {value!r}, expected True or False. Set one of "
            "them."
        )
    for _, inner in list(nnx.iter_modules(module)):
        is_property = isinstance(getattr(type(inner), "trainable", None), property)
        if inner is module or is_property or "trainable" in vars(inner):
            vars(inner)["trainable"] = value
            inner._structure_changed()


def frozen_variables(module: Any) -> set[int]:
    """Returns the `id`s of the variables that are frozen, whatever their kind."""
    found = walk(module)
    trained = _trained_rows(found.graphdef).variables
    return {id(variable) for row, variable in enumerate(found.variables) if row not in trained}


def set_mode(module: nnx.Module, training: bool) -> None:
    """Sets training or inference mode on a module and all inside, as `train()` and `eval()` do.

    Modules with running averages that are frozen stay in inference mode. They are told that they are frozen,
    which may be said of a module around them, as `nnx.BatchNorm` heeds that whatever it is called with.
    """
    if not training:
        module.eval()
        return
    module.train()
    graphdef = walk(module).graphdef
    trained = _trained_rows(graphdef).nodes
    for row, inner in enumerate(collect_nodes(graphdef, (module,))):
        if row not in trained and hasattr(inner, "use_running_average"):
            inner.use_running_average = True
            inner.trainable = False


class _Rows(NamedTuple):
    """Numbers of rows of a `GraphDef`."""

    nodes: set[int]
    variables: set[int]


def _trained_rows(graphdef: GraphDef[Any]) -> _Rows:
    """Returns what is trained."""
    trained = _Rows(set(), set())
    seen: set[tuple[int, int, bool]] = set()
    stack = [(*graphdef.roots[0], True)]
    while stack:
        tag, payload, is_trained = stack.pop()
        if tag not in (NODE, VARIABLE) or (tag, payload, is_trained) in seen:
            continue
        seen.add((tag, payload, is_trained))
        if tag == NODE:
            row = graphdef.nodes[payload]
            is_trained = _states(row, is_trained)
            stack.extend((tag, payload, is_trained) for _, tag, payload in row.children)
        if is_trained:
            (trained.nodes if tag == NODE else trained.variables).add(payload)
    return trained


def _states(row: NodeDef, inherited: bool) -> bool:
    """Returns what a module says itself, else what holds for it."""
    for key, tag, payload in row.children:
        if key == "trainable" and tag == STATIC and isinstance(payload[0], bool):
            return payload[0] if issubclass(row.type, nnx.Module) else inherited
    return inherited
