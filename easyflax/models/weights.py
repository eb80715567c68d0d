"""A model's weights and training state as arrays, out and in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.nnx as nnx
from easyflax.train.binding import Arrays, Binding


def weight_variables(binding: Binding) -> dict[str, nnx.Variable[Any]]:
    """Returns the variables that count as weights, by path: all but those of random streams."""
    return {
        name: variable
        for name, variable in binding.variables.items()
        if not isinstance(variable, nnx.RngState)
    }


def set_arrays(binding: Binding, arrays: Mapping[str, Any], call: str) -> None:
    """Sets variables by path, keeping their dtypes.

    Args:
        binding: the model.
        arrays: from path to array.
        call: the function the user called, for the error message.

    Raises:
        ValueError: a path is unknown, a shape differs, or a dtype cannot hold the values.
    """
    variables = binding.variables
    unknown = [name for name in arrays if name not in variables]
    if unknown:
        raise ValueError(
            f"{call}: got {_shown(unknown)}, expected variables of this model: {_shown(list(variables))}. "
            f"Build the model as it was when the weights were taken."
        )
    values = {
        name: _fitting(name, array, variables[name].get_raw_value(), call) for name, array in arrays.items()
    }
    for name, value in values.items():
        variables[name].set_raw_value(value)
    binding.sync()


def set_all(binding: Binding, arrays: Mapping[str, Any], call: str) -> None:
    """As `set_arrays`, for arrays of the whole model.

    Raises:
        ValueError: as there, or a weight is missing.
    """
    missing = [name for name in weight_variables(binding) if name not in arrays]
    if missing:
        raise ValueError(
            f"{call}: {_shown(missing)} missing, expected all weights of this model. Build the model as it "
            f"was when the weights were taken."
        )
    set_arrays(binding, arrays, call)


def by_path(binding: Binding, *, with_rngs: bool = False) -> Arrays:
    """Returns the weights by path, and the state of random streams if `with_rngs`."""
    variables = binding.variables if with_rngs else weight_variables(binding)
    return {name: variable.get_raw_value() for name, variable in variables.items()}


def _fitting(name: str, array: Any, old: Any, call: str) -> Any:
    if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return array
    array = np.asarray(array)
    if array.shape != old.shape:
        raise ValueError(
            f"{call}: {name!r} has shape {array.shape}, expected {old.shape}. Build the model as it was "
            f"when the weights were taken."
        )
    if not np.can_cast(array.dtype, old.dtype, "same_kind"):
        raise ValueError(
            f"{call}: {name!r} has dtype {array.dtype}, expected {old.dtype}. Convert it with astype if "
            f"that is meant."
        )
    return jnp.asarray(array, old.dtype)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
