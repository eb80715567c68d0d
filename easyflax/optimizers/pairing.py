"""Which gradient belongs to which variable."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax.nnx.training.variable_trees import dotted, is_variable, leaves_with_paths, to_arrays
from easyflax.optimizers.named_params import name_of

__all__ = [
    "by_path",
    "check_number",
    "checked_variables",
    "constrained",
    "gradient",
    "like",
    "present",
    "restored",
    "rows_of",
    "trained_variables",
]

Pair = tuple[Any, nnx.Variable[Any]]


def checked_variables(owner: str, variables: Iterable[Any]) -> list[nnx.Variable[Any]]:
    """Returns them as a list.

    Raises:
        TypeError: one is no variable.
    """
    variables = list(variables)
    for variable in variables:
        if not is_variable(variable):
            raise TypeError(
                f"{owner} got a {type(variable).__name__} among the variables, expected variables, which it "
                "can change. Pass model.trainable_variables; for arrays there are init and update, as in "
                "optax."
            )
    return variables


def check_number(owner: str, values: Sequence[Any], variables: Sequence[Any], what: str = "grads") -> None:
    """Raises unless there is a value for each variable."""
    if len(values) != len(variables):
        names = ", ".join(map(name_of, variables[:5])) + ("..." if len(variables) > 5 else "")
        raise ValueError(
            f"{owner}: {what} has {len(values)} entries, expected {len(variables)}, one for each variable "
            f"({names}). Take them of the same variables."
        )


def present(owner: str, grads: Sequence[Any], variables: Sequence[nnx.Variable[Any]]) -> list[Pair]:
    """Returns the pairs whose gradient is not None, and warns of the others.

    Raises:
        ValueError: there are none.
    """
    pairs = [pair for pair in zip(grads, variables, strict=True) if pair[0] is not None]
    missing = [name_of(variable) for grad, variable in zip(grads, variables, strict=True) if grad is None]
    if not pairs:
        raise ValueError(
            f"{owner}: all {len(missing)} gradients are None, expected arrays. Compute them of a loss that "
            "depends on the variables."
        )
    if missing:
        warnings.warn(
            f"{owner}: there are no gradients for {', '.join(missing)}, which stay as they are. The loss may "
            "not depend on them.",
            stacklevel=3,
        )
    return pairs


def trained_variables(model: nnx.Module) -> dict[Any, nnx.Variable[Any]]:
    """Returns the variables of a model that may be trained, by path; in its own order where it has one."""
    every = dict(nnx.to_flat_state(nnx.state(model)))
    trained = getattr(model, "trainable_variables", None)
    if trained is None:
        return {path: leaf for path, leaf in every.items() if isinstance(leaf, nnx.Param)}
    paths = {id(leaf): path for path, leaf in every.items()}
    return {paths[id(variable)]: variable for variable in trained}


def by_path(owner: str, model: nnx.Module, grads: Any) -> dict[str, Pair]:
    """Returns the gradients with their variables, by path, without those of frozen parameters.

    Args:
        owner: begins the messages.
        model: the module.
        grads: nested like the module, arrays or variables.

    Raises:
        ValueError: there are none, or one belongs to nothing in the model.
    """
    every = dict(nnx.to_flat_state(nnx.state(model)))
    trained = {id(leaf) for leaf in trained_variables(model).values()}
    given = {path: leaf for path, leaf in leaves_with_paths(grads) if leaf is not None}
    unknown = [dotted(path) for path in given if path not in every]
    if unknown or not given:
        got = ", ".join(unknown[:5]) or "no gradients"
        raise ValueError(
            f"{owner} got {got}, expected gradients of variables of the {type(model).__name__}: "
            f"{', '.join(dotted(path) for path in list(every)[:5])}. Pass what nnx.grad returns for it."
        )
    return {
        "/".join(map(str, path)): (given[path], leaf)
        for path, leaf in every.items()
        if path in given and (id(leaf) in trained or not isinstance(leaf, nnx.Param))
    }


def rows_of(variables: Sequence[nnx.Variable[Any]], known: Sequence[Any], owner: str) -> list[int]:
    """Returns the number of each variable among those that the optimizer was built for.

    Copies of all of these stand for them, in the same order: such as a transform makes of a model.

    Raises:
        ValueError: a variable is unknown.
    """
    rows = {id(variable): row for row, variable in enumerate(known)}
    unknown = [variable for variable in variables if id(variable) not in rows]
    if not unknown:
        return [rows[id(variable)] for variable in variables]
    if len(variables) == len(known) and all(map(_alike, variables, known)):
        return list(range(len(known)))
    raise ValueError(
        f"{owner}: got gradients for {', '.join(map(name_of, unknown[:5]))}, expected variables that it was "
        f"built for: {', '.join(map(name_of, known[:5]))}. Make a new optimizer for other variables."
    )


def gradient(pair: Pair | None, value: Any) -> Any:
    """Returns the gradient in the dtype of the variable's value; zeros where there is none."""
    if pair is None:
        return jax.tree.map(jnp.zeros_like, value)
    return like(pair[1], pair[0], "gradient")


def like(variable: nnx.Variable[Any], value: Any, what: str = "value") -> Any:
    """Returns `value`, of an array or a variable, in the dtype of the variable.

    Raises:
        ValueError: it has another shape.
    """
    value, old = to_arrays(value), variable.get_raw_value()
    shapes, expected = (jax.tree.map(jnp.shape, tree) for tree in (value, old))
    if shapes != expected:
        raise ValueError(
            f"The {what} for {name_of(variable)} has shape {shapes}, expected {expected}, the shape of the "
            "variable. Reduce or reshape it."
        )
    return jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), value, old)


def constrained(variable: nnx.Variable[Any], value: Any) -> Any:
    """Returns the value as the variable's constraint wants it, of the same dtype."""
    constraint = variable.get_metadata("constraint", None)
    if constraint is None:
        return value
    return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), constraint(value), value)


def restored(new: Any, old: Any, is_updated: Any) -> Any:
    """Returns the state `new`, with what belongs to parameters that were not updated as it was in `old`.

    Args:
        new: the state after an update.
        old: the state before.
        is_updated: nested like the parameters, whether each was updated.
    """
    updated = dict(jax.tree_util.tree_leaves_with_path(is_updated))

    def choose(path: Any, after: Any, before: Any) -> Any:
        owners = (path[start:] for start in range(len(path)) if path[start:] in updated)  # longest first
        owner = next(owners, None)
        return after if owner is None or updated[owner] else before

    return jax.tree_util.tree_map_with_path(choose, new, old)


def _alike(one: Any, other: Any) -> bool:
    values = one.get_raw_value(), other.get_raw_value()
    shapes = [jax.tree.map(lambda leaf: (jnp.shape(leaf), leaf.dtype), value) for value in values]
    return name_of(one) == name_of(other) and shapes[0] == shapes[1]
