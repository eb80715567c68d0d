"""`RNN`: calls a cell at each step of a batch of sequences."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax.layers import stacked_cells
from easyflax.layers.layer import Layer
from easyflax.layers.recurrence import run_over_time, time_major, time_major_mask
from easyflax.layers.recurrent_cell import is_whole
from easyflax.layers.stacked_cells import StackedRNNCells, check_cell
from easyflax.nnx.core.naming import describe
from easyflax.serialization import deserialize

__all__ = ["RNN", "CellLayer", "RNNState", "first_shape", "with_states_apart"]


class RNNState(nnx.Cache[jax.Array]):
    """A state that a stateful `RNN` keeps from one call to the next."""


class RNN(Layer):
    """Calls a cell at each step of sequences `(batch, time, ...)`.

    A cell is any object with `call(inputs, states)`, which returns `(output, new_states)`, and `state_size`,
    the length of its state or a list of one for each; if it has `get_initial_state(batch_size)`, the states
    begin with that, else with zeros. A `Layer` gets its weights as any other; its `build` gets the shape of
    one step. Called with `initial_state=`, or on a list of sequences and states, the layer begins with these.

    Args:
        cell: a cell, or a list of cells, each of which is called on the output of the one before.
        return_sequences: whether to return the outputs of all steps, `(batch, time, ...)`, or the last one.
        return_state: whether to return the last states too: `(output, *states)`.
        go_backwards: begins at the last step, and returns outputs in the order in which they are computed.
        stateful: begins with the last states of the call before. The number of rows must stay the same, and
            be known: `ef.Input(shape, batch_size=...)`. `reset_state` begins anew.
        unroll: writes the steps one after the other into the compiled program, instead of a loop. The number
            of steps must be known.
        zero_output_for_mask: what is returned for steps that the mask leaves out: zeros, or the output of
            the step before.
        **kwargs: `name`, `dtype`, `trainable`, `activity_regularizer`, see `Layer`.

    Raises:
        ValueError: the cell has no `call` or no `state_size`.

    Examples:
        >>> import jax.numpy as jnp
        >>> class Sum(Layer):
        ...     state_size = 3
        ...
        ...     def call(self, inputs, states):
        ...         total = states[0] + inputs
        ...         return total, [total]
        >>> RNN(Sum(), return_sequences=True)(jnp.ones((1, 2, 3))).tolist()
        [[[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]]
    """

    supports_masking = True
    states: Any = None

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        cell = StackedRNNCells(cell) if isinstance(cell, list | tuple) else cell
        check_cell(type(self).__name__, cell)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask

    @property
    def state_size(self) -> Any:
        """The sizes of the cell's states, in a list."""
        size = self.cell.state_size
        return list(size) if isinstance(size, list | tuple) else [size]

    # -- building

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        del initial_state_shape
        batch_size, time, *rest = self._checked_shape(first_shape(sequences_shape))
        if self.unroll and time is None:
            raise ValueError(
                f"{describe(self)}: got unroll=True for sequences of shape {(batch_size, time, *rest)}, "
                "expected a known number of steps, the second axis. State it in ef.Input, or leave unroll "
                "out."
            )
        stacked_cells.build_cell(self.cell, (batch_size, *rest), self.compute_dtype)
        if self.stateful and batch_size is not None:
            self._make_states(batch_size)

    def _checked_shape(self, shape: Any) -> tuple[int | None, ...]:
        if len(shape) < 2:
            raise ValueError(
                f"{describe(self)}: got sequences of shape {tuple(shape)}, expected (batch, time, ...). "
                "Reshape them."
            )
        return tuple(shape)

    def _make_weights(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super()._make_weights(args, kwargs)
        sequences = args[0] if args else kwargs["sequences"]
        batch_size = first_shape(sequences)[0]
        if self.stateful and self.states is None and batch_size is not None:
            self._make_states(batch_size)

    # -- states

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """Returns the states that a call begins with, in a list."""
        return stacked_cells.initial_state(self.cell, batch_size, self.compute_dtype)

    def reset_state(self) -> None:
        """Sets the states that a stateful layer keeps to zero."""
        for state in self.states or ():
            state.set_value(jnp.zeros_like(state.get_value()))

    reset_states = reset_state

    def _make_states(self, batch_size: int) -> None:
        self.states = nnx.List([RNNState(one) for one in jax.tree.leaves(self.get_initial_state(batch_size))])

    def _first_states(self, sequences: jax.Array, given: Any) -> Any:
        """Returns the states to begin with, in the cell's nesting."""
        first = self.get_initial_state(sequences.shape[0])
        if self.stateful:
            self._check_batch_size(sequences.shape[0])
            given = [state.get_value() for state in self.states] if given is None else given
        if given is None:
            return first
        leaves, structure = jax.tree.flatten(first)
        news = [jnp.asarray(leaf) for leaf in jax.tree.leaves(given)]
        if [leaf.shape for leaf in news] != [leaf.shape for leaf in leaves]:
            raise ValueError(
                f"{describe(self)}: got initial states of the shapes {[leaf.shape for leaf in news]} for "
                f"sequences of shape {sequences.shape}, expected {[leaf.shape for leaf in leaves]}. Pass one "
                "array for each state."
            )
        return structure.unflatten([leaf.astype(like.dtype) for leaf, like in zip(news, leaves)])

    def _check_batch_size(self, batch_size: int) -> None:
        expected = None if self.states is None else self.states[0].shape[0]
        if batch_size != expected:
            known = "a known number of rows" if expected is None else f"{expected}, as in the first call"
            raise ValueError(
                f"{describe(self)}: got {'an unknown number of' if expected is None else batch_size} rows, "
                f"expected {known}, since the layer is stateful. Pass batches of one size, and state it: "
                "ef.Input(shape, batch_size=...)."
            )

    # -- calling

    def __call__(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns what `call` does; sequences and states may come as one list here."""
        sequences, kwargs = with_states_apart(sequences, kwargs)
        return super().__call__(sequences, *args, **kwargs)

    def call(
        self,
        sequences: jax.Array,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Returns the outputs, or the last one, and the last states where `return_state`.

        Args:
            sequences: `(batch, time, ...)`.
            initial_state: the states to begin with.
            mask: `(batch, time)`, False for steps to leave out: the state stays as it is.
            training: whether dropout is applied.
        """
        self._checked_shape(sequences.shape)
        states = self._first_states(sequences, initial_state)
        begin = _begin_whole if is_whole(self.cell) else _begin_any
        loop = begin(self.cell, time_major(sequences), states, training)
        outputs, states, kept = run_over_time(
            loop.step,
            loop.inputs,
            loop.states,
            loop.kept,
            output_of=loop.output_of,
            mask=time_major_mask(mask, sequences, describe(self)),
            go_backwards=self.go_backwards,
            unroll=self.unroll,
            zero_output_for_mask=self.zero_output_for_mask,
            return_sequences=self.return_sequences,
        )
        states = loop.end(states, kept)
        if self.stateful:
            for variable, state in zip(self.states, jax.tree.leaves(states), strict=True):
                variable.set_value(state)
        outputs = outputs.astype(self.compute_dtype)
        outputs = time_major(outputs) if self.return_sequences else outputs
        return (outputs, *states) if self.return_state else outputs

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the outputs, if those of all steps are returned; states have none."""
        del inputs
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        mask = mask if self.return_sequences else None
        return [mask, *[None] * len(self.state_size)] if self.return_state else mask

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{**config, "cell": deserialize(config["cell"])})


class CellLayer(RNN):
    """An `RNN` over a cell of its own, whose arguments are the layer's: they are attributes of the cell."""

    def _hold(self, cell_class: type, given: Mapping[str, Any]) -> None:
        """Makes the cell from the arguments of `__init__`, its `locals()`, and the layer from the rest."""
        kwargs = dict(given["kwargs"])
        of_cell = {name: value for name, value in given.items() if name in _arguments(cell_class)}
        of_layer = {name: value for name, value in given.items() if name in _arguments(RNN)}
        if "activity_regularizer" in given:
            of_layer["activity_regularizer"] = given["activity_regularizer"]
        if "implementation" in kwargs:
            of_cell["implementation"] = kwargs.pop("implementation")
        shared = {name: kwargs[name] for name in ("dtype", "trainable") if name in kwargs}
        RNN.__init__(self, cell_class(**of_cell, **shared), **of_layer, **kwargs)

    def __getattr__(self, name: str) -> Any:
        cell = vars(self).get("cell")
        if cell is not None and name in _arguments(type(cell)):
            return getattr(cell, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _checked_shape(self, shape: Any) -> tuple[int | None, ...]:
        rank = getattr(self.cell, "rank", 0) + 3
        if len(shape) != rank:
            axes = {3: "(batch, time, features)"}.get(rank, f"{rank} axes, (batch, time, ...)")
            raise ValueError(
                f"{describe(self)}: got sequences of shape {tuple(shape)}, expected {axes}. Reshape them, or "
                "return sequences from the layer before."
            )
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in ("cell", "use_cudnn")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)


def first_shape(inputs: Any) -> tuple[int | None, ...]:
    """Returns the shape of sequences; they may come as an array, as a shape, or first in a list of either."""
    if hasattr(inputs, "shape"):
        return tuple(inputs.shape)
    if isinstance(inputs[0], list | tuple) or hasattr(inputs[0], "shape"):
        return first_shape(inputs[0])
    return tuple(inputs)


def with_states_apart(sequences: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Returns the sequences of a list of sequences and states, and `kwargs` with the states in it."""
    if not isinstance(sequences, list | tuple):
        return sequences, kwargs
    sequences, *states = sequences
    return sequences, {**kwargs, "initial_state": states} if states else kwargs


class _Loop(NamedTuple):
    """What `run_over_time` is called with for a cell, and `end`, which returns the cell's states after it."""

    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    inputs: Any
    states: Any
    kept: Any
    output_of: Callable[[Any], jax.Array]
    end: Callable[[Any, Any], Any]


def _begin_whole(cell: Any, inputs: jax.Array, states: Any, training: bool) -> _Loop:
    """The loop of a cell whose mapping of the inputs is done before, and whose output is a state."""
    noise = cell.draw_noise(inputs.shape[1], training)

    def step(projected: Any, states: Any, kept: Any) -> tuple[Any, Any]:
        return cell.advance(projected, states, noise), kept

    return _Loop(
        step, cell.project(inputs, noise), states, None, lambda states: states[0], lambda states, _: states
    )


def _begin_any(cell: Any, inputs: jax.Array, states: Any, training: bool) -> _Loop:
    """The loop of any cell: its output is carried along, and so is what changes in it besides parameters."""
    noise = stacked_cells.draw_noise(cell, inputs.shape[1], training)
    # What is no module has no variables; as an entry of a list it can be split like the others.
    graphdef, params, _, kept = nnx.split(nnx.List([cell]), nnx.Param, nnx.Intermediate, ...)

    def step(x: jax.Array, carry: Any, kept: Any) -> tuple[Any, Any]:
        now = nnx.merge(graphdef, params, kept)
        output, new = stacked_cells.advance(now[0], x, carry[0], noise, training)
        return (new, output), nnx.state(now, nnx.Not(nnx.Any(nnx.Param, nnx.Intermediate)))

    def end(carry: Any, kept: Any) -> Any:
        nnx.update(nnx.List([cell]), kept)
        return carry[0]

    output = jax.eval_shape(lambda: step(jnp.zeros_like(inputs[0]), (states, None), kept)[0][1])
    return _Loop(step, inputs, (states, _output_before(states, output)), kept, lambda carry: carry[1], end)


def _output_before(states: Any, output: Any) -> jax.Array:
    """Returns what stands for the output before the first step: the (last cell's) first state if it can."""
    state = states[-1][0] if isinstance(states[-1], list | tuple) else states[0]
    if (state.shape, state.dtype) == (output.shape, output.dtype):
        return state
    return jnp.zeros(output.shape, output.dtype)


def _arguments(cls: type) -> frozenset[str]:
    """Returns the names of the constructor's arguments."""
    names = frozenset(inspect.signature(cls.__init__).parameters) if cls not in _known else _known[cls]
    return _known.setdefault(cls, names - {"self", "kwargs"})


_known: dict[type, frozenset[str]] = {}
