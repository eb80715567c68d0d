"""What a model is made of, for people to look at: its layers and functions, and what goes where.

A `Sequential`, and a model between symbolic values, know that from when they were stated. Copies of a model
between symbolic values do not; they and all other modules are known by what lies in them alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax.layers.specs import ArraySpec
from easyflax.layers.symbolic import Step, Symbolic, name_of, symbolic_leaves
from easyflax.models.chain import Chain
from easyflax.models.graph import Graph
from easyflax.models.naming import named
from easyflax.models.sorting import sorted_steps

__all__ = ["Node", "Outline", "Source", "is_chain", "module_in", "outline", "shown_name"]


@dataclass(frozen=True)
class Source:
    """Where an argument of a call comes from.

    Attributes:
        node: the name of what made it.
        call: which call of it, counted from 0.
        output: which of the values that it returned.
    """

    node: str
    call: int = 0
    output: int = 0


@dataclass
class Node:
    """A layer, a module or a function in a model.

    Attributes:
        name: unique in the model.
        function: what is called.
        outputs: what its first call returned, `jax.ShapeDtypeStruct`s in its nesting; None when unknown.
        inputs: likewise, what that was called on, a list.
        calls: the sources of the arguments of each call; those of inputs have none.
        num_outputs: how many values each call returned.
    """

    name: str
    function: Any
    outputs: Any = None
    inputs: Any = None
    calls: list[tuple[Source, ...]] = field(default_factory=list)
    num_outputs: int = 1

    @property
    def kind(self) -> str:
        """The class of a module, "function" for a function."""
        return type(self.function).__name__ if isinstance(self.function, nnx.Module) else "function"

    @property
    def sources(self) -> list[Source]:
        """The sources of the arguments of all calls."""
        return [source for call in self.calls for source in call]


@dataclass
class Outline:
    """The parts of a model.

    Attributes:
        nodes: in the order in which they are called.
        inputs: the names of those that take what the model is called on, in its order.
        outputs: where the values come from that it returns.
    """

    nodes: list[Node]
    inputs: list[str]
    outputs: list[Source]


def module_in(module: Any) -> Any:
    """Returns what a model wraps; any other module is returned itself."""
    return getattr(module, "trained_module", module)


def outline(module: Any) -> Outline | None:
    """Returns the parts of a model.

    Args:
        module: what `module_in` returns.

    Returns:
        None for modules that do not say, see above.
    """
    if isinstance(module, Chain):
        return _chain_outline(module)
    if isinstance(module, Graph) and getattr(module, "stated", None) is not None:
        return _graph_outline(module)
    return None


def is_chain(nodes: Iterable[Node]) -> bool:
    """Says whether each part takes what the one before returned, and nothing else."""
    before: str | None = None
    for node in nodes:
        if len(node.calls) != 1 or [source.node for source in node.sources] != ([before] if before else []):
            return False
        before = node.name
    return True


def _chain_outline(chain: Chain) -> Outline:
    values = [_specs(value) for value in chain.stated or [None] * (len(chain.layers) + 1)]
    nodes: list[Node] = []
    for place, (name, function) in enumerate(named(chain.layers).items()):
        sources = (Source(nodes[-1].name),) if nodes else ()
        nodes.append(Node(name, function, values[place + 1], jax.tree.leaves(values[place]), [sources]))
    ends = [nodes[place].name for place in (0, -1)] if nodes else []
    return Outline(nodes, ends[:1], [Source(name) for name in ends[1:]])


def _graph_outline(graph: Graph) -> Outline:
    inputs, outputs = (symbolic_leaves(values) for values in graph.stated)
    steps = sorted_steps(inputs, outputs)
    names = {id(module): name for name, module in graph.layers.items()}
    nodes = {id(module): Node(name, module) for name, module in graph.ordered_layers.items()}
    functions = [step for step in steps if id(step.function) not in names]
    for name, step in zip(_function_names(functions, graph.layers), functions, strict=True):
        nodes[id(step)] = Node(name, step.function)
    made: dict[int, Source] = {}
    for value in inputs:
        node = nodes[id(value.step.function)]
        made[id(value)] = Source(node.name)
        node.calls.append(())
        node.outputs = _specs(value)
    for step in steps:
        _add_call(nodes[id(step.function if id(step.function) in names else step)], step, made)
    takes = [made[id(value)].node for value in inputs]
    return Outline(_ordered(list(nodes.values())), takes, [made[id(value)] for value in outputs])


def _function_names(steps: list[Step], taken: Iterable[str]) -> list[str]:
    """Returns names for the functions of steps, numbered as layers are."""
    used, names = set(taken), []
    for step in steps:
        base = name = name_of(step.function)
        number = 0
        while name in used:
            number += 1
            name = f"{base}_{number}"
        used.add(name)
        names.append(name)
    return names


def _add_call(node: Node, step: Step, made: dict[int, Source]) -> None:
    values, arguments = symbolic_leaves(step.outputs), symbolic_leaves((step.args, step.kwargs))
    for place, value in enumerate(values):
        made.setdefault(id(value), Source(node.name, len(node.calls), place))
    node.calls.append(tuple(made[id(value)] for value in arguments))
    if node.outputs is None:
        node.outputs, node.inputs, node.num_outputs = _specs(step.outputs), _specs(arguments), len(values)


def _ordered(nodes: list[Node]) -> list[Node]:
    """Returns modules in their order, and each function as soon as there is what it is called on."""
    waiting = [node for node in nodes if not isinstance(node.function, nnx.Module)]
    order: list[Node] = []
    done: set[str] = set()
    for module in (node for node in nodes if isinstance(node.function, nnx.Module)):
        order.append(module)
        done.add(module.name)
        while ready := [node for node in waiting if _is_ready(node, done)]:
            order += ready
            done.update(node.name for node in ready)
            waiting = [node for node in waiting if node.name not in done]
    return order


def _is_ready(node: Node, done: set[str]) -> bool:
    return all(source.node in done for source in node.sources)


def _specs(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: ArraySpec(leaf.shape, leaf.dtype) if isinstance(leaf, Symbolic) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, Symbolic),
    )


def shown_name(source: Source, nodes: Mapping[str, Node]) -> str:
    """Returns the name of a source; with Keras's numbers of the call and the output, where there are more."""
    node = nodes[source.node]
    is_clear = len(node.calls) == 1 and node.num_outputs == 1
    return source.node if is_clear else f"{source.node}[{source.call}][{source.output}]"
