"""A model's weights and training state as arrays, out and in.

In files a weight is named by the way to it. What only holds others is left out of that, and layers of a
`Sequential` go by their names, so that equal models give equal names in whichever way they were stated:

    layers.dense_1.kernel           Sequential, and Model(inputs, outputs)
    encoder.layers.dense.kernel     a model with a model in it, as its attribute `encoder`
    blocks.0.attention.query.bias   attributes and lists of other modules

Files that name layers of a `Sequential` by number, "layers.0.kernel", are read, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.nnx as nnx
from easyflax.models.chain import Chain
from easyflax.models.graph import Graph
from easyflax.models.naming import named
from easyflax.train.binding import Arrays, Binding, path_name

_SHOWN = 4
_NO_WEIGHTS = nnx.RngState | nnx.metrics.MetricState | nnx.OptState


@dataclass(frozen=True)
class Weight:
    """A weight of a model, as files know it.

    Attributes:
        name: in the whole model.
        path: of the variable, with the places in lists.
        in_layer: the layer's name, and the name within the layer.
        variable: what holds it.
    """

    name: str
    path: str
    in_layer: str
    variable: nnx.Variable[Any]


def weight_variables(binding: Binding) -> dict[str, nnx.Variable[Any]]:
    """Returns the variables that count as weights, by path: not of random streams, metrics, optimizers."""
    return {
        name: variable
        for name, variable in binding.variables.items()
        if not isinstance(variable, _NO_WEIGHTS)
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
    wrong = [
        reason for name, array in arrays.items() if (reason := _misfit(name, array, _value(variables[name])))
    ]
    if wrong:
        raise ValueError(
            f"{call}: {_listed(wrong)}. Build the model as it was when the weights were taken; astype "
            "converts dtypes."
        )
    for name, array in arrays.items():
        variables[name].set_raw_value(_converted(array, _value(variables[name])))
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


def by_path(binding: Binding, *, with_rest: bool = False) -> Arrays:
    """Returns the weights by path; `with_rest` also what of the variables is none."""
    variables = binding.variables if with_rest else weight_variables(binding)
    return {name: variable.get_raw_value() for name, variable in variables.items()}


# -- files


def by_name(module: Any, binding: Binding) -> Arrays:
    """Returns the weights of `module`, which `binding` is of, by their names in files."""
    return {weight.name: _value(weight.variable) for weight in named_weights(module, binding)}


def named_weights(module: Any, binding: Binding) -> list[Weight]:
    """Returns the weights of `module`, which `binding` is of, in the order of their paths."""
    nodes = dict(nnx.iter_graph(module))
    found = []
    for name_of_path, (path, variable) in zip(binding.variables, binding.variables_by_path(), strict=True):
        if not isinstance(variable, _NO_WEIGHTS):
            ways = _ways(nodes, path)
            name, in_layer = (path_name(tuple(way.name for way in some)) for some in (ways, _inside(ways)))
            found.append(Weight(name, name_of_path, in_layer, variable))
    return found


def set_from_file(
    module: Any, binding: Binding, arrays: Mapping[str, Any], *, skip_mismatch: bool, by_name: bool
) -> None:
    """Sets the weights of `module`, which `binding` is of, to arrays of a file.

    Args:
        module: the model.
        binding: of the model.
        arrays: by their names in the file.
        skip_mismatch: leaves weights as they are that do not fit, with one warning, instead of raising.
        by_name: looks for each layer by its name, wherever it is in the file; what is not found stays as it
            is.

    Raises:
        ValueError: nothing fits; or, without `skip_mismatch`, something does not.
    """
    weights = named_weights(module, binding)
    found, problems = (_found_by_layer if by_name else _found_by_name)(weights, arrays)
    misfits = {
        weight.path: reason
        for weight in weights
        if weight.path in found
        and (reason := _misfit(weight.name, found[weight.path], _value(weight.variable)))
    }
    fitting = {path: array for path, array in found.items() if path not in misfits}
    wrong = [*misfits.values(), *problems]
    if not fitting and arrays and weights:
        raise ValueError(
            f"load_weights: no weight of the file fits the model: {_listed(wrong) or _both(arrays, weights)}."
            " Build the model as it was when the weights were saved, or give its layers the same names."
        )
    if wrong and not skip_mismatch:
        raise ValueError(
            f"load_weights: {_listed(wrong)}. Build the model as it was when the weights were saved, or pass "
            "skip_mismatch=True to leave out what does not fit."
        )
    if wrong:
        warnings.warn(f"load_weights skipped {len(wrong)} weights: {'; '.join(wrong)}.", stacklevel=3)
    set_arrays(binding, fitting, "load_weights")


def _found_by_name(weights: list[Weight], arrays: Mapping[str, Any]) -> tuple[Arrays, list[str]]:
    """Returns arrays by path, and in words what the file or the model has that the other has not."""
    spelled = {weight.path: _spelling(weight, arrays) for weight in weights}
    found = {path: arrays[name] for path, name in spelled.items() if name is not None}
    missing = [f"{one.name!r} is not in the file" for one in weights if spelled[one.path] is None]
    unknown = [f"{name!r} is not in the model" for name in arrays if name not in spelled.values()]
    return found, [*missing, *unknown]


def _spelling(weight: Weight, arrays: Mapping[str, Any]) -> str | None:
    return next((name for name in (weight.name, weight.path) if name in arrays), None)


def _found_by_layer(weights: list[Weight], arrays: Mapping[str, Any]) -> tuple[Arrays, list[str]]:
    """Returns arrays by path, and in words which ones cannot be told apart."""
    found: Arrays = {}
    problems = []
    taken = {weight.name for weight in weights if weight.name in arrays}
    for weight in weights:
        ends = f".{weight.in_layer}"
        names = [name for name in arrays if name not in taken and f".{name}".endswith(ends)]
        if weight.name in taken:
            names = [weight.name]
        if len(names) == 1:
            found[weight.path] = arrays[names[0]]
        elif names:
            problems.append(f"{weight.name!r} may be any of {_shown(names)} in the file")
    return found, problems


@dataclass(frozen=True)
class _Way:
    """One part of a path: from a node to what it holds."""

    node: Any
    name: Any
    target: Any


def _ways(nodes: Mapping[tuple[Any, ...], Any], path: tuple[Any, ...]) -> list[_Way]:
    """Returns the parts of a path, without those from a model to the module that it wraps."""
    ways: list[_Way] = []
    for place, name in enumerate(path):
        node, target = nodes.get(path[:place]), nodes.get(path[: place + 1])
        holder = nodes.get(path[: place - 1]) if place else None
        if isinstance(holder, Chain) and path[place - 1] == "layers":
            name = list(named(holder.layers))[name]
        if name != "module" or getattr(node, "trained_module", None) is not target:
            ways.append(_Way(node, name, target))
    return ways


def _inside(ways: list[_Way]) -> list[_Way]:
    """Returns the rest of a way that begins at the innermost layer of a model, with its name."""
    begin = 0
    for place, way in enumerate(ways):
        if hasattr(way.target, "trained_module") or _leads_to_layers(way):
            begin = place + 1
        elif isinstance(way.target, nnx.Module) and not isinstance(way.target, Chain | Graph):
            break
    return ways[begin:]


def _leads_to_layers(way: _Way) -> bool:
    return isinstance(way.node, Chain | Graph) and way.name == "layers"


def _both(arrays: Mapping[str, Any], weights: list[Weight]) -> str:
    return f"it has {_shown(list(arrays))}, the model {_shown([weight.name for weight in weights])}"


# -- what fits


def _value(variable: nnx.Variable[Any]) -> Any:
    return variable.get_raw_value()


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray)


def _misfit(name: str, array: Any, old: Any) -> str | None:
    """Returns in words why an array cannot take the place of another one; None if it can."""
    if not _is_array(old):
        shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (array, old)]
        return None if shapes[0] == shapes[1] else f"{name!r} has shapes {shapes[0]}, expected {shapes[1]}"
    if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return None
    array = np.asarray(array)
    if array.shape != tuple(old.shape):
        return f"{name!r} has shape {array.shape}, expected {tuple(old.shape)}"
    if not np.can_cast(array.dtype, old.dtype, "same_kind"):
        return f"{name!r} has dtype {array.dtype}, expected {old.dtype}"
    return None


def _converted(array: Any, old: Any) -> Any:
    if not _is_array(old):  # of several arrays, as the exact sums of metrics are
        leaves, structure = jax.tree.flatten(old)
        return structure.unflatten(map(_converted, jax.tree.leaves(array), leaves))
    if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return array
    return jnp.asarray(np.asarray(array), old.dtype)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _listed(reasons: Sequence[str]) -> str:
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return "; ".join(reasons[:_SHOWN]) + more
