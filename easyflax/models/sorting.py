"""The order of a graph: of its steps, and of its layers as Keras lists them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from easyflax.layers.symbolic import Step, Symbolic, symbolic_leaves

__all__ = ["sorted_functions", "sorted_steps"]


def sorted_steps(inputs: Iterable[Symbolic], outputs: Iterable[Symbolic]) -> list[Step]:
    """Returns the steps that make `outputs` from `inputs`, each after those that it needs.

    Raises:
        ValueError: an output depends on an `ef.Input` that is not among `inputs`, or nothing is called on an
            input.
    """
    given = {id(value) for value in inputs}
    order: list[Step] = []
    done: set[int] = set()
    used: set[int] = set()
    waiting: list[tuple[Any, bool]] = [(value, False) for value in reversed(list(outputs))]
    while waiting:
        item, is_ready = waiting.pop()
        if is_ready:
            order.append(item)
        elif id(item) in given:
            used.add(id(item))
        elif id(item.step) not in done:
            done.add(id(item.step))
            needed = symbolic_leaves((item.step.args, item.step.kwargs))
            if not needed:
                raise ValueError(
                    f"The outputs depend on the input '{item.name}' of shape {item.shape}, expected it among "
                    "the inputs of the model. Add it: ef.Model(inputs=[...], outputs=...)."
                )
            waiting.append((item.step, True))
            waiting += [(value, False) for value in reversed(needed)]
    for value in inputs:
        if id(value) not in used and not value.is_used:  # a part of another model may leave inputs out
            raise ValueError(
                f"Nothing is called on the input '{value.name}' of shape {value.shape}, expected all inputs "
                "to be connected to an output. Leave it out, or use it."
            )
    return order


def sorted_functions(inputs: Iterable[Symbolic], steps: list[Step], outputs: Iterable[Symbolic]) -> list[Any]:
    """Returns modules and functions of the steps and of the inputs, each once, in Keras's order.

    That is by depth, the longest way to an output, the deepest first; of equal depth in the order in which
    they are met on the way back from the outputs.
    """
    depths: dict[int, int] = {}
    for step in reversed(steps):
        depth = depths.setdefault(id(step.function), 0)
        depth = depths[id(step.function)] = max(depth, depths.get(id(step), 0))
        for value in symbolic_leaves((step.args, step.kwargs)):
            depths[id(value.step)] = max(depths.get(id(value.step), 0), depth + 1)
    found = {id(function): function for function in _met_on_the_way_back(inputs, outputs)}
    for value in inputs:
        function = value.step.function
        found.setdefault(id(function), function)
        depths[id(function)] = max(depths.get(id(function), 0), depths.get(id(value.step), 0))
    return sorted(found.values(), key=lambda function: -depths[id(function)])


def _met_on_the_way_back(inputs: Iterable[Symbolic], outputs: Iterable[Symbolic]) -> list[Any]:
    given = {id(value) for value in inputs}
    seen: set[int] = set()
    found: list[Any] = []
    waiting = list(reversed(list(outputs)))
    while waiting:
        value = waiting.pop()
        if id(value.step) not in seen:
            seen.add(id(value.step))
            found.append(value.step.function)
            if id(value) not in given:
                waiting += reversed(symbolic_leaves((value.step.args, value.step.kwargs)))
    return found
