"""A model as TensorBoard shows it: weights by tag, weights as pictures, layers as a graph."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from easyflax.models.outline import module_in, outline
from easyflax.models.summary import layer_rows
from easyflax.models.weights import named_weights
from easyflax.train.binding import Binding

__all__ = ["graph_nodes", "weight_images", "weights_by_tag"]

_CHANNELS = (1, 3, 4)  # of a picture


def weights_by_tag(model: Any, arrays: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Returns the weights of a model by tags such as `"dense_1/kernel"`.

    Args:
        model: the model.
        arrays: by path, to be given those tags instead of the weights themselves, such as gradients.
    """
    module = module_in(model)
    weights = named_weights(module, Binding(module))
    if arrays is None:
        arrays = {weight.path: weight.variable.get_raw_value() for weight in weights}
    tags = {weight.path: _tag(weight.name) for weight in weights}
    found = {tags.get(path, path.replace(".", "/")): array for path, array in arrays.items()}
    return {
        numbered: np.asarray(leaf)
        for tag, array in found.items()
        for numbered, leaf in zip(_numberings(tag), jax.tree.leaves(array))
    }


def weight_images(array: np.ndarray) -> np.ndarray | None:
    """Returns a weight as pictures, `(number, height, width, channels)` bytes; None if it is no picture.

    A vector is a column, a matrix lies on its long side, and an array of three axes is a picture for each
    entry of the last one.
    """
    array = np.asarray(array, float).squeeze()
    if array.ndim == 0:
        array = array[None]
    if array.ndim == 1:
        array = array[None, :, None, None]
    elif array.ndim == 2:
        array = (array.T if array.shape[0] > array.shape[1] else array)[None, :, :, None]
    elif array.ndim == 3:
        array = array.transpose(2, 0, 1)[..., None]
    if array.ndim != 4 or array.shape[-1] not in _CHANNELS or not array.size:
        return None
    array = np.nan_to_num(array)
    low, high = array.min(), array.max()
    return np.round((array - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def graph_nodes(model: Any) -> dict[str, tuple[str, list[str]]]:
    """Returns the parts of a model by name: the kind of each, and the names of those that it is called on.

    Models that do not say what goes where have parts without connections.
    """
    parts = outline(module_in(model))
    if parts is None:
        found: dict[str, tuple[str, list[str]]] = {}
        for row in layer_rows(model):
            name = row.name.replace(".", "/")
            found[next(free for free in _numberings(name) if free not in found)] = row.kind, []
        return found
    return {
        node.name: (node.kind, list(dict.fromkeys(source.node for source in node.sources)))
        for node in parts.nodes
    }


def _tag(name: str) -> str:
    """Returns the tag of a weight, given its name in files: lists of layers are left out of it."""
    return "/".join(part for part in name.split(".") if part != "layers") or name


def _numberings(name: str) -> Iterator[str]:
    """Yields a name, and the same with numbers behind it."""
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(1))
