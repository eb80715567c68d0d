"""An optimizer with a state: its own, or that of the model it is compiled into.

What an optimizer keeps for a model is a tree of arrays, as optax makes it. It lies in one of two places: in
variables of the object, after `build` or the first update; or in a `Home`, to which `attach` sends it. What
reads or changes the state goes to the place where it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import jax
import optax
from jax.core import Tracer

import easyflax.nnx as nnx
from easyflax.nnx.training.optimizer import OptState, to_variables
from easyflax.nnx.training.variable_trees import is_variable, to_arrays
from easyflax.optimizers import pairing, wrappers
from easyflax.optimizers.learning_rate import (
    LearningRate,
    as_learning_rate,
    get_learning_rate,
    set_learning_rate,
)
from easyflax.optimizers.named_params import name_of, unique_names

__all__ = ["Home", "Stateful", "Unseen", "noting_builds"]

Built = tuple["Stateful", list[nnx.Variable[Any]]]
_BUILDS: ContextVar[list[Built] | None] = ContextVar("easyflax_optimizer_builds", default=None)


@contextmanager
def noting_builds() -> Iterator[list[Built]]:
    """Yields a list of the optimizers that make their own state within the block, with their variables."""
    notes: list[Built] = []
    token = _BUILDS.set(notes)
    try:
        yield notes
    finally:
        _BUILDS.reset(token)


S = TypeVar("S", bound="Stateful")


class Home(Protocol):
    """Keeps the state of an optimizer that is compiled into a model."""

    iterations: Any  # steps so far

    def opt_state(self) -> Any:
        """Returns the state, a tree of arrays."""
        ...

    def set_opt_state(self, opt_state: Any) -> None:
        """Replaces the state."""
        ...

    def params(self) -> Any:
        """Returns the tree of the variables that the state is for, nested as the optimizer sees them."""
        ...

    def trainable_variables(self) -> list[Any]:
        """Returns these variables in the order of the model's `trainable_variables`."""
        ...


class Stateful(nnx.Module):
    """What an optimizer does with its state; `Optimizer` says what the updates are."""

    _apart_from_layers = True  # a model that has one as an attribute does not count it among its layers
    _state: Any

    def __init__(self, learning_rate: LearningRate):
        self._learning_rate = learning_rate
        self._state = None  # {"iterations": ..., "opt_state": ...}, with variables in place of arrays
        self._held: Unseen | None = None  # the variables that the state is for, by name
        self._home: Unseen | None = None

    # -- for `Optimizer` to define

    def init(self, params: Any) -> Any:
        """Returns the state for `params`."""
        raise NotImplementedError

    def _optax_update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        raise NotImplementedError

    @property
    def _accumulated(self) -> int:
        """Steps for one update."""
        return 1

    # -- where the state is

    def attach(self, home: Home) -> None:
        """Sends everything that reads or changes the state to `home`, until `detach`."""
        self._home = Unseen(home)

    @property
    def home(self) -> Home | None:
        """Where the state is, if it was sent elsewhere by `attach`."""
        return None if self._home is None else self._home.value

    def detach(self) -> None:
        """Ends what `attach` began; the object has the state that it had before."""
        self._home = None

    def attached(self: S, home: Home) -> S:
        """Returns another object with these settings, whose state is at `home`."""
        twin = self.without_state()
        twin.attach(home)
        return twin

    @property
    def built(self) -> bool:
        """Whether there is a state; in a compiled model, whether a step was done."""
        if self._home is None:
            return self._state is not None
        return isinstance(self._steps, Tracer) or bool(self._steps)

    @property
    def _has_state(self) -> bool:
        return self._home is not None or self._state is not None

    def without_state(self: S) -> S:
        """Returns another object with these settings, neither built nor attached."""
        twin = copy.copy(self)
        twin._state = twin._held = twin._home = None
        return twin

    def build(self, variables: Iterable[nnx.Variable[Any]]) -> None:
        """Makes the state for these variables; a second call changes nothing.

        Args:
            variables: those to train, such as `model.trainable_variables`.

        Raises:
            TypeError: something in it is no variable.
        """
        variables = pairing.checked_variables(f"{type(self).__name__}.build", variables)
        self._build(variables, unique_names(map(name_of, variables)))

    def _build(self, variables: Sequence[nnx.Variable[Any]], names: Sequence[str]) -> None:
        if self._has_state:
            return
        params = dict(zip(names, variables, strict=True))
        state = {"iterations": jax.numpy.zeros((), jax.numpy.int32), "opt_state": self.init(params)}
        self._state = nnx.data(to_variables(state))
        self._held = Unseen(params)
        if (notes := _BUILDS.get()) is not None:
            notes.append((self, list(variables)))

    def _opt_state(self) -> Any:
        return to_arrays(self._state["opt_state"]) if self._home is None else self._home.value.opt_state()

    def _whole_state(self) -> dict[str, Any]:
        return {"iterations": jax.numpy.asarray(self._steps), "opt_state": self._opt_state()}

    def _set_opt_state(self, opt_state: Any) -> None:
        if self._home is None:
            _assign(self._state["opt_state"], opt_state)
        else:
            self._home.value.set_opt_state(opt_state)

    # -- what one may read and set

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step; setting it takes effect there and compiles nothing anew.

        Before there is a state it may be set to a schedule as well.

        Raises:
            TypeError: set while a schedule decides it.
            ValueError: the optax transformation keeps no learning rate in its state; or set to a negative
                number.
        """
        schedule = self._schedule()
        if schedule is not None:
            return _plain(schedule(self._steps))
        if not self._has_state:
            return self._initial_rate()
        return _plain(get_learning_rate(self._opt_state()))

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        owner = f"{type(self).__name__}.learning_rate"
        if not self._has_state:
            self._set_initial_rate(value)
        elif callable(value):
            raise TypeError(
                f"{owner} was set to a schedule on an optimizer that has a state, expected a number: the "
                "state holds one. Make a new optimizer with learning_rate=schedule."
            )
        else:
            self._set_opt_state(set_learning_rate(self._opt_state(), value))

    def _schedule(self) -> Any:
        """The function of the step that the learning rate follows, or None."""
        return self._learning_rate if callable(self._learning_rate) else None

    def _initial_rate(self) -> Any:
        """The learning rate that a new state will hold."""
        return self._learning_rate

    def _set_initial_rate(self, rate: Any) -> None:
        self._learning_rate = as_learning_rate(rate, type(self).__name__)

    @property
    def iterations(self) -> Any:
        """Updates so far; with accumulation, steps divided by `gradient_accumulation_steps`."""
        return self._steps // self._accumulated

    @property
    def _steps(self) -> Any:
        if self._home is not None:
            return self._home.value.iterations
        return 0 if self._state is None else _plain(self._state["iterations"].get_raw_value())

    @property
    def variables(self) -> list[nnx.Variable[Any]]:
        """The state as variables: the count of steps, the learning rate, then the rest; empty without one.

        Those of an optimizer that is compiled into a model are copies.
        """
        if self._home is not None:
            return _in_order(jax.tree.map(OptState, self._whole_state()))
        return [] if self._state is None else _in_order(self._state)

    def assign_variables(self, values: Sequence[Any]) -> None:
        """Sets the state from a value for each of `variables`, as `stateless_apply` returns them.

        In a compiled model the count of steps stays: it is the model's.

        Raises:
            ValueError: there are more or fewer, or a shape differs.
        """
        own = self.variables
        pairing.check_number(f"{type(self).__name__}.assign_variables", values, own, "values")
        for variable, value in zip(own, values, strict=True):
            variable.set_raw_value(pairing.like(variable, value))
        if self._home is not None:
            tree = _from_order(self._whole_state(), to_arrays(own))
            self._home.value.set_opt_state(tree["opt_state"])

    # -- updates

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Any] | None = None) -> None:
        """Updates variables in place by their gradients.

        Args:
            grads: a gradient for each variable; None leaves the variable as it is, with a warning.
            trainable_variables: the variables, some or all of those that the optimizer was built for; at the
                first call it is built for them. Left out, they are all it was built for.

        Raises:
            ValueError: there are more or fewer gradients than variables, none of them has a value, shapes
                differ, or a variable is unknown.
        """
        grads = list(grads)
        owner = f"{type(self).__name__}.apply"
        if not grads:
            return
        if trainable_variables is None:
            self._check_built(owner)
            variables = self._all_variables()
        else:
            variables = pairing.checked_variables(owner, trainable_variables)
        pairing.check_number(owner, grads, variables)
        if trainable_variables is not None:
            self._build(variables, unique_names(map(name_of, variables)))
        self._apply(pairing.present(owner, grads, variables))

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> Any:
        """Updates variables in place; `apply` for pairs of a gradient and a variable.

        Returns:
            the number of steps.
        """
        pairs = list(grads_and_vars)
        self.apply([grad for grad, _ in pairs], [variable for _, variable in pairs])
        return self._steps

    def update(self, model_or_updates: Any, grads_or_state: Any, params: Any = None, **extra: Any) -> Any:
        """Updates a model in place; or, in optax's manner, returns updates and the next state.

        `update(model, grads)`: `grads` as `nnx.grad` returns them, nested like the model, or a list in the
        order of `model.trainable_variables`. Parameters of frozen layers stay as they are.

        `update(updates, state, params)`: pure; what to add to the parameters, and the next state.

        Raises:
            ValueError: a gradient belongs to no variable of the model or has another shape.
        """
        if not isinstance(model_or_updates, nnx.Module):
            return self._optax_update(model_or_updates, grads_or_state, params, **extra)
        if isinstance(grads_or_state, list | tuple):
            return self.apply(grads_or_state, pairing.trained_variables(model_or_updates).values())
        owner = f"{type(self).__name__}.update"
        by_path = pairing.by_path(owner, model_or_updates, grads_or_state)
        variables = [variable for _, variable in by_path.values()]
        self._build(variables, unique_names(by_path))
        self._apply(list(by_path.values()))
        return None

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Iterable[Any], trainable_variables: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Returns the next values of the trainable variables and of the optimizer's, changing nothing.

        Args:
            optimizer_variables: a value for each of `variables`.
            grads: a gradient for each trainable variable, in the order in which the optimizer was built.
            trainable_variables: a value for each.

        Raises:
            ValueError: the optimizer is not built, or a number does not fit.
        """
        owner = f"{type(self).__name__}.stateless_apply"
        self._check_built(owner)
        twin, trained = self._detached_copy(trainable_variables)
        own = twin.variables
        pairing.check_number(owner, optimizer_variables, own, "optimizer_variables")
        for variable, value in zip(own, optimizer_variables, strict=True):
            variable.set_raw_value(to_arrays(value))
        twin.apply(grads, trained)
        return to_arrays(trained), to_arrays(own)

    def _detached_copy(self, values: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Returns a copy with a state of its own, and the copies of the variables that it is for."""
        trained = self._all_variables()
        pairing.check_number(f"{type(self).__name__}", values, trained, "trainable_variables")
        targets = [one.replace(to_arrays(value)) for one, value in zip(trained, values, strict=True)]
        twin = copy.copy(self)
        twin._home = None
        twin._state = nnx.data(to_variables(self._whole_state()))
        copies = {id(one): target for one, target in zip(trained, targets, strict=True)}
        twin._held = Unseen(jax.tree.map(lambda one: copies[id(one)], self._held_tree(), is_leaf=is_variable))
        return twin, targets

    def finalize_variable_values(self, trainable_variables: Iterable[nnx.Variable[Any]]) -> None:
        """Sets variables to their running averages, where the state holds them (`use_ema=True`).

        Args:
            trainable_variables: some or all of those that the optimizer was built for.

        Raises:
            ValueError: the optimizer is not built, or a variable is unknown.
        """
        owner = f"{type(self).__name__}.finalize_variable_values"
        self._check_built(owner)
        variables = pairing.checked_variables(owner, trainable_variables)
        params, structure = jax.tree.flatten(self._held_tree(), is_leaf=is_variable)
        rows = pairing.rows_of(variables, params, owner)
        values = structure.unflatten(to_arrays(params))
        final = structure.flatten_up_to(wrappers.finalized(values, self._opt_state()))
        for row, variable in zip(rows, variables, strict=True):
            variable.set_raw_value(final[row])

    def _apply(self, pairs: Sequence[tuple[Any, nnx.Variable[Any]]]) -> None:
        held = self._held_tree()
        leaves, structure = jax.tree.flatten(held, is_leaf=is_variable)
        rows = pairing.rows_of([variable for _, variable in pairs], leaves, type(self).__name__)
        found = dict(zip(rows, pairs, strict=True))
        targets = [found[row][1] if row in found else leaf for row, leaf in enumerate(leaves)]
        values = [variable.get_raw_value() for variable in targets]
        grads = [pairing.gradient(found.get(row), value) for row, value in enumerate(values)]
        old = self._opt_state()
        params = structure.unflatten(values)
        updates, new = self._optax_update(structure.unflatten(grads), old, params)
        after = structure.flatten_up_to(optax.apply_updates(params, updates))
        if len(found) < len(leaves):
            new = pairing.restored(
                new, old, structure.unflatten([row in found for row in range(len(leaves))])
            )
        for row in rows:
            targets[row].set_raw_value(pairing.constrained(targets[row], after[row]))
        self._set_opt_state(new)
        if self._home is None:
            count = self._state["iterations"]
            count.set_raw_value(count.get_raw_value() + 1)

    def _held_tree(self) -> Any:
        if self._home is not None:
            return self._home.value.params()
        return None if self._held is None else self._held.value

    def _all_variables(self) -> list[Any]:
        """Returns the variables that the state is for, in the order in which lists of gradients are."""
        if self._home is not None:
            return self._home.value.trainable_variables()
        return jax.tree.leaves(self._held_tree(), is_leaf=is_variable)

    def _check_built(self, owner: str) -> None:
        if not self._has_state:
            raise ValueError(
                f"{owner} was called on an optimizer that is not built, expected one that knows its "
                "variables. Call optimizer.build(model.trainable_variables) first, or pass the variables."
            )


class Unseen:
    """Holds what `nnx` shall not take for a part of the object."""

    def __init__(self, value: Any):
        self.value = value


def _plain(value: Any) -> Any:
    """A number as Python has it; a traced one as it is."""
    return value if isinstance(value, Tracer) else jax.numpy.asarray(value).item()


def _assign(variables: Any, values: Any) -> None:
    jax.tree.map(nnx.Variable.set_raw_value, variables, values, is_leaf=is_variable)


def _in_order(state: Any) -> list[Any]:
    """The leaves of the state, count and learning rate first."""
    leaves = jax.tree.leaves(state, is_leaf=is_variable)
    return [leaves[row] for row in _order(state)]


def _from_order(like: Any, leaves: Sequence[Any]) -> Any:
    """A tree like `like` of the leaves that `_in_order` returns."""
    rows = dict(zip(_order(like), leaves, strict=True))
    return jax.tree.structure(like, is_leaf=is_variable).unflatten([rows[row] for row in range(len(rows))])


def _order(state: Any) -> list[int]:
    def rank(row: int) -> int:
        keys = jax.tree_util.keystr(paths[row])
        return 0 if keys == "['iterations']" else 1 if "hyperparams['learning_rate']" in keys else 2

    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(state, is_leaf=is_variable)]
    return sorted(range(len(paths)), key=rank)
