"""Cells on top of each other, and how any cell is called."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax.layers.abstract import output_specs
from easyflax.layers.building import has_unbuilt
from easyflax.layers.layer import Layer
from easyflax.layers.recurrent_cell import is_whole
from easyflax.layers.specs import ArraySpec
from easyflax.serialization import deserialize

__all__ = ["StackedRNNCells", "advance", "build_cell", "check_cell", "draw_noise", "initial_state"]


class StackedRNNCells(Layer):
    """A cell that calls several, each on the output of the one before; its state is the list of theirs.

    Args:
        cells: see `RNN`.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        ValueError: a cell has no `call` or no `state_size`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.layers import GRUCell, LSTMCell, RNN
        >>> layer = RNN(StackedRNNCells([LSTMCell(8), GRUCell(4)]))
        >>> layer(jnp.ones((2, 5, 3))).shape
        (2, 4)
    """

    cells: Any

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for cell in cells:
            check_cell("StackedRNNCells", cell)
        self.cells = nnx.List(cells)

    @property
    def state_size(self) -> list[Any]:
        """The sizes of the states of each cell."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """The length of the last cell's output."""
        return _output_size(self.cells[-1])

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Returns the first states of each cell."""
        return [initial_state(cell, batch_size, self.compute_dtype) for cell in self.cells]

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        for cell in self.cells:
            shape = build_cell(cell, shape, self.compute_dtype)

    def call(self, inputs: jax.Array, states: Any, training: bool = False) -> tuple[jax.Array, Any]:
        noise = draw_noise(self, inputs.shape[0], training)
        return advance(self, inputs, states, noise, training)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{**config, "cells": deserialize(config["cells"])})


def check_cell(layer: str, cell: Any) -> None:
    """Checks that something can be a cell.

    Raises:
        ValueError: it cannot.
    """
    missing = [name for name in ("call", "state_size") if not hasattr(cell, name)]
    if missing:
        raise ValueError(
            f"{layer}: got the cell {type(cell).__name__} without {' and '.join(missing)}, expected "
            "call(inputs, states), which returns the output and the new states, and state_size. Define them; "
            "cells of NNX, which take the carry first, go into nnx.RNN."
        )


def initial_state(cell: Any, batch_size: Any, dtype: Any) -> list[Any]:
    """Returns the states that a cell begins with, in a list."""
    if (own := getattr(cell, "get_initial_state", None)) is not None:
        states = own(batch_size=batch_size)
        return list(states) if isinstance(states, list | tuple) else [states]
    sizes = cell.state_size if isinstance(cell.state_size, list | tuple) else [cell.state_size]
    shapes = [(batch_size, *size) if isinstance(size, list | tuple) else (batch_size, size) for size in sizes]
    return [jnp.zeros(shape, getattr(cell, "compute_dtype", dtype)) for shape in shapes]


def build_cell(cell: Any, input_shape: tuple[int | None, ...], dtype: Any) -> tuple[int | None, ...]:
    """Builds a cell, and layers inside of it, for inputs of one step; returns the shape of its output."""
    if isinstance(cell, Layer):
        inputs = ArraySpec(input_shape, cell.compute_dtype)
        cell.build_for((inputs,), {})
        if has_unbuilt(cell):
            states = jax.eval_shape(lambda: initial_state(cell, 1, dtype))
            free = jax.tree.map(lambda one: ArraySpec((None, *one.shape[1:]), one.dtype), states)
            output_specs(cell, (inputs, free), {})
    elif hasattr(cell, "build"):
        cell.build(input_shape)
    if is_whole(cell):
        return (input_shape[0], *cell.get_initial_state(1)[0].shape[1:])
    return (input_shape[0], _output_size(cell))


def draw_noise(cell: Any, batch_size: int, training: bool) -> Any:
    """Returns what the dropouts of a cell use at every step of one call."""
    if _is_stack(cell):
        return [draw_noise(one, batch_size, training) for one in cell.cells]
    return cell.draw_noise(batch_size, training) if is_whole(cell) else None


def advance(cell: Any, inputs: jax.Array, states: Any, noise: Any, training: bool) -> tuple[jax.Array, Any]:
    """Returns the output and the new states of one step, in the nesting of `states`."""
    if _is_stack(cell):
        new = []
        for one, old, its_noise in zip(cell.cells, states, noise, strict=True):
            inputs, its_new = advance(one, inputs, old, its_noise, training)
            new.append(its_new)
        return inputs, _nested_like(new, states, cell)
    if is_whole(cell):
        new = cell.advance(cell.project(inputs, noise), states, noise)
        return new[0], new
    function: Any = cell if callable(cell) else cell.call
    known = isinstance(cell, Layer) or "training" in inspect.signature(function).parameters
    output, new = function(inputs, states, **({"training": training} if known else {}))
    return output, _nested_like(new, states, cell)


def _nested_like(new: Any, old: Any, cell: Any) -> Any:
    """Returns new states in the nesting and the dtypes of the old ones, as loops need it."""
    leaves, structure = jax.tree.flatten(old)
    news = jax.tree.leaves(new)
    if [jnp.shape(leaf) for leaf in news] != [leaf.shape for leaf in leaves]:
        raise ValueError(
            f"{type(cell).__name__}: got new states of the shapes {[jnp.shape(leaf) for leaf in news]}, "
            f"expected those of the old ones, {[leaf.shape for leaf in leaves]}. Let call return (output, "
            "new_states), and state_size state their sizes."
        )
    return structure.unflatten([jnp.asarray(leaf, like.dtype) for leaf, like in zip(news, leaves)])


def _is_stack(cell: Any) -> TypeGuard[StackedRNNCells]:
    return isinstance(cell, StackedRNNCells) and type(cell).call is StackedRNNCells.call


def _output_size(cell: Any) -> int:
    size = getattr(cell, "output_size", None)
    size = cell.state_size if size is None else size
    return size[0] if isinstance(size, list | tuple) else size
