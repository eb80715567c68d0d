"""The exponential moving average of a model's variables, for evaluating with smoother parameters."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from easyflax.nnx.core import graph
from easyflax.nnx.core.filters import Filter
from easyflax.nnx.core.marks import data
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.state import merge_state
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.training.variable_trees import (
    check_fits,
    dotted,
    is_variable,
    leaves_with_paths,
    selected,
    to_arrays,
)

A = TypeVar("A")

__all__ = ["EMA"]


class EMA(Pytree):
    """Keeps a moving average of a model's variables, which each `update` draws towards those of now.

    The average begins as a copy of the variables, so there is no bias to correct. It has their kinds,
    metadata and dtypes; what is computed in a lower precision is averaged in it.

    Args:
        params: a module, or a tree of variables.
        decay: the share of the average that an update keeps, a number from 0 to 1 or an array.
        only: filter for the variables to average.

    Attributes:
        decay: as given.
        filter: `only`.
        params: the averages, a state of variables.

    Raises:
        TypeError: `only` selects an array that is not in a variable, or a random key.
        ValueError: `decay` is a number outside of 0 to 1, or `only` matches nothing.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        >>> ema = nnx.EMA(model, decay=0.75)
        >>> smooth_model = ema.apply_to(model)
        >>> model.bias[...] = jnp.ones(2)
        >>> ema.update(model)
        >>> smooth_model.bias[...].tolist()
        [0.25, 0.25]

    Source: Polyak and Juditsky 1992, https://doi.org/10.1137/0330046, with weights that fall off
    exponentially.
    """

    def __init__(self, params: Any, decay: float | jax.Array, *, only: Filter = ...) -> None:
        if isinstance(decay, int | float) and not 0 <= decay <= 1:
            raise ValueError(
                f"EMA got decay={decay}, expected a number from 0 to 1. Pass the share of the average that "
                "each update keeps, for example 0.999."
            )
        self.decay = decay
        self.filter = only
        state = graph.state(params, only)
        leaves = leaves_with_paths(state)
        if not leaves:
            raise ValueError(
                f"EMA got only={only!r}, which matches nothing in the {type(params).__name__}, expected a "
                "filter for the variables to average. Pass a kind that it has, such as nnx.Param."
            )
        for path, leaf in leaves:
            _check_can_be_averaged(dotted(path), leaf)
        self.params = data(jax.tree.map(_copied, state, is_leaf=is_variable))

    def update(self, updates: Any) -> None:
        """Sets each average to `decay * average + (1 - decay) * value`.

        Args:
            updates: the module or the tree of variables, later in training; plain arrays do as well.

        Raises:
            ValueError: it has other variables or other shapes than what is averaged.
        """
        state = selected(updates, self.filter)
        expectation = "are averaged. Pass the model that the EMA was made for, or make another EMA."
        check_fits("EMA.update got values", to_arrays(state), to_arrays(self.params), expectation)
        jax.tree.map(self._update, self.params, state, is_leaf=is_variable)

    def apply_to(self, model: A) -> A:
        """Returns a new model like `model`, in which the averages stand in place of what is averaged.

        It shares the averages' variables with this object, so later updates show in it, and all its other
        variables with `model`.

        Args:
            model: a module with the structure of that which is averaged.

        Raises:
            ValueError: there is an average for a variable that `model` does not have.
        """
        graphdef, state = graph.split(model)
        paths = {path for path, _ in leaves_with_paths(state)}
        missing = [dotted(path) for path, _ in leaves_with_paths(self.params) if path not in paths]
        if missing:
            raise ValueError(
                f"EMA.apply_to got a {type(model).__name__} without '{missing[0]}', expected a model like "
                "the averaged one. Pass a model of the same structure."
            )
        params = self.params if is_variable(state) else merge_state(state, self.params)
        return graph.merge(graphdef, params)

    def _update(self, average: Variable[Any], update: Any) -> None:
        value = update.get_value() if is_variable(update) else update
        old = average.get_value()

        def mixed(old: Any, new: Any) -> Any:
            return (self.decay * old + (1.0 - self.decay) * new).astype(old.dtype)

        new = jax.tree.map(mixed, old, value)
        average.set_value(new, index=...) if isinstance(old, jax.Array) else average.set_value(new)


def _copied(variable: Variable[Any]) -> Variable[Any]:
    return variable.copy(jax.tree.map(jnp.copy, variable.get_value()))


def _check_can_be_averaged(name: str, leaf: Any) -> None:
    if not is_variable(leaf):
        raise TypeError(
            f"EMA got a {type(leaf).__name__} at '{name}', expected variables only. Keep it in an "
            "nnx.Variable, or leave it out with only=, for example only=nnx.Param."
        )
    if any(_is_key(value) for value in jax.tree.leaves(leaf.get_value())):
        raise TypeError(
            f"EMA got a random key at '{name}' ({type(leaf).__name__}), expected numbers, since keys have no "
            "average. Leave it out with only=, for example only=nnx.Param."
        )


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(getattr(value, "dtype", int), jax.dtypes.prng_key)
