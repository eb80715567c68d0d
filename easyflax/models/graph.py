"""A module that runs the steps between symbolic inputs and outputs: what `ef.Model(inputs, outputs)` holds.

The modules are its children, in `layers` by name. What is called when, and on what, is a `Program`: it is
static, and shared by all copies of the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax.layers.calling import call_in_model
from easyflax.layers.layer import Layer
from easyflax.layers.symbolic import Step, Symbolic
from easyflax.masks import with_masks
from easyflax.models.inputs import InputNest, flat_inputs
from easyflax.models.naming import named
from easyflax.models.sorting import sorted_functions, sorted_steps

__all__ = ["Graph", "is_single"]


class Graph(Layer):
    """Computes symbolic outputs from symbolic inputs.

    Args:
        inputs: a symbolic value, or a list, tuple or dict of them.
        outputs: likewise, in any nesting.

    Raises:
        TypeError: there is something else among them.
        ValueError: an output depends on an input that is missing, no output depends on an input, or two
            modules have one name.

    Attributes:
        layers: the modules by name, those of inputs included, in Keras's order.
        constants: arrays and variables that steps take besides.
    """

    __slots__ = ("stated",)  # the symbolic inputs and outputs; copies do not have them
    built = True
    _is_between_values = True
    _is_in_paths = False
    _is_made_of_layers = True

    def __init__(self, inputs: Any, outputs: Any) -> None:
        super().__init__()
        given, nest = flat_inputs(inputs), InputNest(inputs)
        values, structure = _symbolic_outputs(outputs)
        steps = sorted_steps(given, values)
        functions = sorted_functions(given, steps, values)
        self.layers = nnx.Dict(named(one for one in functions if isinstance(one, nnx.Module)))
        names = {id(module): name for name, module in self.layers.items()}
        nest.names = [names[id(value.step.function)] for value in given]
        slots = _Slots(names, given)
        calls = [slots.add(step) for step in steps]
        self._program = Program(nest, calls, [slots.places[id(value)] for value in values], structure)
        self.constants = nnx.List(slots.constants)
        self._order = tuple(self.layers)
        self._weight_order = ("layers", "constants")
        object.__setattr__(self, "stated", (inputs, outputs))

    @property
    def ordered_layers(self) -> dict[str, Any]:
        """The modules by name, in Keras's order also in copies, whose dicts are sorted."""
        return {name: self.layers[name] for name in self._order}

    def _in_compute_dtype(self, tree: Any) -> Any:
        return tree  # each layer does that for itself

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the outputs, in the nesting that the model was stated with; a single one by itself."""
        outputs = self._program.run(self, with_masks(inputs, mask))
        return outputs[0] if is_single(outputs) else outputs


def is_single(outputs: Any) -> bool:
    """Says whether that is a list or tuple of one: a model returns what is in it."""
    return isinstance(outputs, list | tuple) and len(outputs) == 1


@dataclass(frozen=True, eq=False)
class Call:
    """One step of a program.

    Attributes:
        target: the name of the module, or the function.
        leaves: of the arguments: places of values and of constants, and whatever else is passed.
        structure: of the arguments.
        places: where the values go that it returns.
    """

    target: Any
    leaves: tuple[Any, ...]
    structure: Any
    places: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """A value of the graph, as an argument of a step."""

    index: int


@dataclass(frozen=True)
class Constant:
    """An entry of `Graph.constants`, as an argument of a step."""

    index: int


@dataclass(frozen=True, eq=False)
class Program:
    """What a graph does; compared by identity."""

    nest: InputNest
    calls: list[Call]
    outputs: list[int]
    structure: Any

    def run(self, graph: Graph, inputs: Any) -> Any:
        """Returns the outputs."""
        values: dict[int, Any] = dict(enumerate(self.nest.arrays_of(inputs)))
        for call in self.calls:
            function = graph.layers[call.target] if isinstance(call.target, str) else call.target
            args, kwargs = call.structure.unflatten([_value(leaf, values, graph) for leaf in call.leaves])
            outputs = call_in_model(function, args, kwargs)
            values.update(zip(call.places, jax.tree.leaves(outputs), strict=True))
        return self.structure.unflatten([values[place] for place in self.outputs])


class _Slots:
    """Gives the values of a graph their places, while its program is written."""

    def __init__(self, names: dict[int, str], inputs: list[Symbolic]) -> None:
        self.names = names
        self.places: dict[int, int] = {id(value): place for place, value in enumerate(inputs)}
        self.constants: list[Any] = []
        self._kept: dict[int, Constant] = {}

    def add(self, step: Step) -> Call:
        leaves, structure = jax.tree.flatten((step.args, step.kwargs), is_leaf=_is_leaf)
        arguments = tuple(self._argument(leaf) for leaf in leaves)
        places = [self._new_place(value) for value in jax.tree.leaves(step.outputs, is_leaf=_is_leaf)]
        function = step.function
        target = self.names[id(function)] if isinstance(function, nnx.Module) else function
        return Call(target, arguments, structure, tuple(places))

    def _argument(self, leaf: Any) -> Any:
        if isinstance(leaf, Symbolic):
            return Place(self.places[id(leaf)])
        if not isinstance(leaf, nnx.Pytree | nnx.Variable) and not hasattr(leaf, "__array__"):
            return leaf
        if id(leaf) not in self._kept:
            self._kept[id(leaf)] = Constant(len(self.constants))
            self.constants.append(leaf)
        return self._kept[id(leaf)]

    def _new_place(self, value: Symbolic) -> int:
        if id(value) in self.places:  # also an input of the graph: what is fed goes before
            return -1 - len(self.places)
        return self.places.setdefault(id(value), len(self.places))


def _symbolic_outputs(outputs: Any) -> tuple[list[Symbolic], Any]:
    values, structure = jax.tree.flatten(outputs, is_leaf=_is_leaf)
    for value in values:
        if not isinstance(value, Symbolic):
            raise TypeError(
                f"Model: got {type(value).__name__} among the outputs, expected symbolic values, as layers "
                "return when they are called on what ef.Input(shape) returns."
            )
    if not values:
        raise ValueError(
            "Model: got no outputs, expected at least one. Pass outputs=, what a layer returned."
        )
    return values, structure


def _value(leaf: Any, values: dict[int, Any], graph: Graph) -> Any:
    if isinstance(leaf, Place):
        return values[leaf.index]
    return graph.constants[leaf.index] if isinstance(leaf, Constant) else leaf


def _is_leaf(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, Symbolic | nnx.Pytree | nnx.Variable)
