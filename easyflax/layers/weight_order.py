"""The order of a layer's weights: of creation, as in Keras; of the paths in modules that are no layers.

A module's own traversal sorts attributes by name, so that two modules with equal attributes have equal
structures. Keras's users expect `kernel, bias = layer.get_weights()`: a layer notes the order in which its
attributes were made when it is built, trainable weights first, then the others, then what lies in layers
inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.nnx as nnx
from easyflax import random
from easyflax.nnx.core.module import sorted_items

# What is kept from one call to the next, or for training.
_NO_WEIGHTS = nnx.RngState | nnx.Intermediate | nnx.Cache | nnx.metrics.MetricState | nnx.OptState

__all__ = [
    "check_built",
    "children",
    "in_order_of_weights",
    "is_apart",
    "order_of",
    "ordered_paths",
    "ordered_variables",
    "ordered_weights",
    "set_weights",
    "with_attribute",
]


def order_of(layer: Any) -> tuple[str, ...]:
    """Returns the names of the attributes that hold weights, in the order of their weights."""
    names = [name for name, value in vars(layer).items() if _rank(value) is not None]
    return tuple(sorted(names, key=lambda name: _rank(vars(layer)[name]) or 0))


def with_attribute(layer: Any, name: str) -> tuple[str, ...]:
    """Returns the order of a built layer's weights after an attribute was made.

    A layer that says itself that it is built, `self.built = True`, has no order by then.
    """
    if name == "built":
        return layer._weight_order or order_of(layer)
    names = layer._weight_order if _rank(vars(layer).get(name)) is None else (*layer._weight_order, name)
    return tuple(sorted(names, key=lambda name: _rank(vars(layer).get(name)) or 0))


def ordered_weights(module: Any) -> list[nnx.Variable[Any]]:
    """Returns the weights of a module and of those inside, each once.

    What a layer keeps from one call to the next is no weight: the state of random streams and caches. No
    more is what metrics and optimizers keep.
    """
    return [variable for _, variable in ordered_paths(module)]


def ordered_paths(module: Any) -> list[tuple[tuple[Any, ...], nnx.Variable[Any]]]:
    """Returns `(path, weight)` in the order of `ordered_weights`; of several paths the first."""
    found: dict[int, tuple[tuple[Any, ...], nnx.Variable[Any]]] = {}
    seen: set[int] = set()
    for path, variable in _walk((), module, seen):
        if not isinstance(variable, _NO_WEIGHTS):
            found.setdefault(id(variable), (path, variable))
    return list(found.values())


def in_order_of_weights(module: Any, variables: Any) -> list[nnx.Variable[Any]]:
    """Returns variables of a module, in any nesting, in the order of its `ordered_weights`."""
    leaves = jax.tree.leaves(variables, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    found = {id(leaf) for leaf in leaves}
    return [one for one in ordered_weights(module) if id(one) in found]


def ordered_variables(module: Any) -> list[nnx.Variable[Any]]:
    """Returns the weights and the state of random streams, each once: of each module its own first."""
    found = {id(one): one for _, one in _walk((), module, set(), children=_streams_first)}
    return [
        one for one in found.values() if isinstance(one, nnx.RngState) or not isinstance(one, _NO_WEIGHTS)
    ]


def check_built(layer: Any, call: str) -> None:
    """Raises if a layer, or one inside of it, has no weights yet.

    Raises:
        ValueError: that is so.
    """
    for path, module in nnx.iter_modules(layer):
        is_layer = hasattr(type(module), "_noted_in")
        if is_layer and getattr(module, "built", True) is False:
            where = ".".join(map(str, path))
            inside = f" (its layer '{where}')" if where else ""
            raise ValueError(
                f"{call}: {type(layer).__name__} '{layer.name}'{inside} has no weights yet, expected it to "
                "be built. Call it on data or on ef.Input(...), or call build(input_shape), before."
            )


def set_weights(layer: Any, weights: Sequence[Any]) -> None:
    """Sets the weights of a layer in the order of `ordered_weights`.

    Raises:
        ValueError: their number, a shape or a dtype differs, or the layer is not built.
    """
    check_built(layer, "set_weights")
    weights, paths = list(weights), ordered_paths(layer)
    wrapped = getattr(type(layer), "__wraps__", None)
    names = [".".join(map(str, path[path[0] == wrapped :])) for path, _ in paths]
    if len(weights) != len(names):
        raise ValueError(
            f"set_weights: got {len(weights)} arrays, expected {len(names)}, one for each of "
            f"{', '.join(map(repr, names))}. Pass what get_weights() of an equal model returns."
        )
    olds = [variable.get_raw_value() for _, variable in paths]
    values = [_fitting(*given) for given in zip(names, weights, olds, strict=True)]
    for (_, variable), value in zip(paths, values, strict=True):
        variable.set_raw_value(value)


def _fitting(name: str, array: Any, old: Any) -> Any:
    if isinstance(array, nnx.Variable):
        array = array.get_raw_value()
    if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return array
    array = np.asarray(array)
    if array.shape != tuple(old.shape):
        raise ValueError(
            f"set_weights: {name!r} has shape {array.shape}, expected {tuple(old.shape)}. Pass what "
            "get_weights() of an equal model returns."
        )
    if not np.can_cast(array.dtype, old.dtype, "same_kind"):
        raise ValueError(
            f"set_weights: {name!r} has dtype {array.dtype}, expected {old.dtype}. Convert it with astype if "
            "that is meant."
        )
    return jnp.asarray(array, old.dtype)


def children(value: Any) -> list[tuple[Any, Any]]:
    """Returns `(name, value)` of the attributes of a module, or of the items of a container, in order.

    Metrics and optimizers are left out.
    """
    if isinstance(value, nnx.Pytree):
        stated = getattr(value, "_children_in_order", None)
        if stated is not None and (in_order := stated()) is not None:
            return in_order
        items = vars(value)
        ordered = getattr(value, "ordered_layers", None)
        if ordered is not None:  # a graph of layers, whose own dict may be sorted by name
            items = {**items, "layers": ordered}
        is_unbuilt = getattr(value, "built", True) is False
        order = order_of(value) if is_unbuilt else items.get("_weight_order", ())
        first = [name for name in order if name in items]
        rest = [name for name, _ in sorted_items(value) if name not in first]
        found = [(name, items[name]) for name in (*first, *rest)]
    elif isinstance(value, dict):
        found = list(value.items())
    else:
        found = list(enumerate(value)) if isinstance(value, list | tuple) else []
    return [(name, child) for name, child in found if not is_apart(child)]


def _streams_first(value: Any) -> list[tuple[Any, Any]]:
    """Returns `children(value)`: variables first, then random streams."""

    def rank(item: tuple[Any, Any]) -> int:
        is_stream = isinstance(item[1], nnx.Rngs | nnx.RngStream | random.SeedGenerator)
        return 0 if isinstance(item[1], nnx.Variable) else 1 if is_stream else 2

    return sorted(children(value), key=rank)


def _walk(
    path: tuple[Any, ...], value: Any, seen: set[int], children: Callable[[Any], Any] = children
) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, nnx.Variable):
        yield path, value
        return
    if isinstance(value, nnx.Pytree):
        if id(value) in seen:
            return
        seen.add(id(value))
    for name, child in children(value):
        yield from _walk((*path, name), child, seen, children)


def is_apart(module: Any) -> bool:
    """Says whether a module is no part of the model that holds it, as metrics and optimizers are none."""
    return getattr(type(module), "_apart_from_layers", False)


def _rank(value: Any) -> int | None:
    """Returns the place of an attribute: trainable weights, other weights, what holds weights; None for
    others."""
    if isinstance(value, nnx.Variable):
        return 0 if isinstance(value, nnx.Param) else 1
    return 2 if isinstance(value, nnx.Pytree | list | tuple | dict) else None
