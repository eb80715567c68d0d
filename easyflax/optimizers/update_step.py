"""Optimizers written for Keras: `build` makes variables, `update_step` changes one parameter in place.

Such a class becomes an optax transformation. For each step a copy of the optimizer is built for copies of the
parameters, its variables get the values of the last step, `update_step` runs, and what it left in the
variables is the next state. All that happens while the step is traced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import easyflax.nnx as nnx
from easyflax import initializers
from easyflax.optimizers.named_params import array_rows, name_of
from easyflax.optimizers.stateful import Stateful, Unseen
from easyflax.optimizers.wrappers import needed

__all__ = ["ByUpdateStep", "update_step_rule"]


class _Assignable:
    """Changes in place under Keras's names."""

    def assign(self: Any, value: Any) -> None:
        """Sets the value, in the dtype that the variable has."""
        self.set_raw_value(jnp.asarray(value, self.get_raw_value().dtype))

    def assign_add(self: Any, value: Any) -> None:
        """Adds to the value."""
        self.assign(self.get_raw_value() + jnp.asarray(value))

    def assign_sub(self: Any, value: Any) -> None:
        """Subtracts from the value."""
        self.assign(self.get_raw_value() - jnp.asarray(value))


class _Trained(_Assignable, nnx.Param[Any]):
    """A copy of a parameter."""


class _Slot(_Assignable, nnx.OptState):
    """A variable that `build` made."""


class _Scratch:
    """What a copy of an optimizer knows while it is built and does a step."""

    def __init__(self, count: Any):
        self.count = count
        self.rows: dict[int, int] | None = None  # from the id of a parameter to its number
        self.slots: dict[int | None, list[_Slot]] = {None: []}  # by the number of the parameter

    def start(self, variables: Sequence[Any]) -> None:
        self.rows = {id(variable): row for row, variable in enumerate(variables)}
        self.slots |= {row: [] for row in self.rows.values()}


class ByUpdateStep(Stateful):
    """What `build` and `update_step` of a class written for Keras may use."""

    _scratch: Any = None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Changes `variable`, and the variables that `build` made, by one step; for subclasses to define."""
        raise NotImplementedError

    @property
    def built(self) -> bool:
        """Whether there is a state; in a compiled model, whether a step was done."""
        return super().built if self._scratch is None else self._scratch.value.rows is not None

    @property
    def iterations(self) -> Any:
        """Updates so far; with accumulation, steps divided by `gradient_accumulation_steps`."""
        return super().iterations if self._scratch is None else self._scratch.value.count

    def build(self, variables: Any) -> None:
        if self._scratch is None:
            super().build(variables)
        else:
            self._scratch.value.start(variables)

    def add_variable(
        self, shape: Any, initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> Any:
        """Returns a new variable of the state; called in `build`.

        Args:
            shape: of the variable.
            initializer: see `easyflax.initializers`.
            dtype: float32 by default.
            name: of the variable.
        """
        return self._add(None, shape, initializer, dtype or jnp.float32, name)

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        """Returns a new variable of the state with shape and dtype of a parameter; called in `build`."""
        like = reference_variable
        return self._add(like, like.shape, initializer, like.dtype, f"{name_of(like)}_{name or 'var'}")

    def add_optimizer_variables(self, trainable_variables: Any, name: Any, initializer: Any = "zeros") -> Any:
        """Returns a new variable for each parameter, or such a list for each of several names."""
        if isinstance(name, str):
            return [self.add_variable_from_reference(one, name, initializer) for one in trainable_variables]
        each = initializer if isinstance(initializer, list | tuple) else [initializer] * len(name)
        return tuple(
            self.add_optimizer_variables(trainable_variables, *pair) for pair in zip(name, each, strict=True)
        )

    def assign(self, variable: Any, value: Any) -> None:
        """Sets a variable, of the state or of the model."""
        if variable is not None:
            variable.assign(value)

    def assign_add(self, variable: Any, value: Any) -> None:
        """Adds to a variable."""
        variable.assign_add(value)

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtracts from a variable."""
        variable.assign_sub(value)

    def _get_variable_index(self, variable: Any) -> int:
        return self._scratch.value.rows[id(variable)]

    def _add(self, like: Any, shape: Any, initializer: Any, dtype: Any, name: str | None) -> Any:
        if self._scratch is None:
            return None  # the variables belong to the copies that do the steps
        scratch = self._scratch.value
        made: Any = initializers.get(initializer)
        slot = _Slot(jnp.asarray(made(shape=tuple(shape), dtype=dtype), dtype), name=name or "variable")
        scratch.slots[None if like is None else scratch.rows[id(like)]].append(slot)
        return slot


class UpdateStepState(NamedTuple):
    """The state of `update_step_rule`."""

    count: jax.Array  # () int32
    slots: tuple[Any, ...]  # nested like the parameters; empty arrays where one has fewer
    others: tuple[jax.Array, ...]


def update_step_rule(optimizer: ByUpdateStep, learning_rate: Any) -> optax.GradientTransformation:
    """Returns what `optimizer.build` and `optimizer.update_step` do as an optax transformation."""

    def prepared(params: Any, count: Any) -> tuple[Any, list[_Trained], _Scratch]:
        variables = [_Trained(row.array, name=row.name, path=row.path) for row in array_rows(params)]
        scratch = _Scratch(count)
        twin = optimizer.without_state()
        twin._scratch = Unseen(scratch)
        twin.build(variables)
        return twin, variables, scratch

    def state_of(scratch: _Scratch, count: Any, params: Any) -> UpdateStepState:
        columns = max((len(found) for row, found in scratch.slots.items() if row is not None), default=0)
        leaves, structure = jax.tree.flatten(params)
        slots = [
            structure.unflatten([_value_at(scratch.slots[row], column) for row in range(len(leaves))])
            for column in range(columns)
        ]
        return UpdateStepState(
            count, tuple(slots), tuple(slot.get_raw_value() for slot in scratch.slots[None])
        )

    def init(params: Any) -> UpdateStepState:
        count = jnp.zeros((), jnp.int32)
        return state_of(prepared(params, count)[2], count, params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, UpdateStepState]:
        params = needed(params, type(optimizer).__name__)
        twin, variables, scratch = prepared(params, state.count)
        for slot, value in zip(scratch.slots[None], state.others, strict=True):
            slot.assign(value)
        for column, tree in enumerate(state.slots):
            for row, value in enumerate(jax.tree.leaves(tree)):
                if column < len(scratch.slots[row]):
                    scratch.slots[row][column].assign(value)
        old, structure = jax.tree.flatten(params)
        for grad, variable in zip(structure.flatten_up_to(updates), variables, strict=True):
            twin.update_step(grad, variable, learning_rate)
        steps = [variable.get_raw_value() - value for variable, value in zip(variables, old, strict=True)]
        count = jnp.asarray(optax.safe_increment(state.count))
        return structure.unflatten(steps), state_of(scratch, count, params)

    return optax.GradientTransformation(init, update)


def _value_at(slots: Sequence[_Slot], column: int) -> jax.Array:
    return slots[column].get_raw_value() if column < len(slots) else jnp.zeros((0,))
