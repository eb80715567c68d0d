"""Datasets that give rows by their numbers: `torch.utils.data.Dataset`, `datasets.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from easyflax.data.convert import leaf_name
from easyflax.data.foreign import as_numpy
from easyflax.data.kinds import is_a, type_name


def reader_of_rows(data: Any) -> Callable[[list[int]], Any] | None:
    """Returns what reads the rows of given numbers from `data` and stacks them; None for other kinds of data.

    Args:
        data: a map-style dataset of torch, or a dataset of Hugging Face, which is read as NumPy arrays.
    """
    if is_a(data, "datasets", "Dataset"):
        return data.with_format("numpy").__getitem__
    if type_name(data) == "torch.TensorDataset":  # not a class derived from it: it indexes tensors
        return data.__getitem__
    if is_a(data, "torch", "Dataset") and not is_a(data, "torch", "IterableDataset"):
        return lambda numbers: stack_rows([data[number] for number in numbers])
    return None


def stack_rows(rows: Sequence[Any]) -> Any:
    """Returns rows, each a nesting of arrays and numbers, as one such nesting of arrays with a row axis.

    Raises:
        ValueError: the rows differ in nesting or shape.

    Examples:
        >>> stack_rows([({"a": 1}, 2.0), ({"a": 3}, 4.0)])
        ({'a': array([1, 3])}, array([2., 4.]))
    """
    structures = {jax.tree.structure(row) for row in rows}
    if len(structures) > 1:
        raise ValueError(
            f"The rows of a batch have several nestings, {' and '.join(map(str, structures))}, expected one. "
            f"Return the same arrays for each row."
        )
    columns = [jax.tree_util.tree_leaves_with_path(row) for row in rows]
    stacked = [
        _stack(leaf_name("", column[0][0]), [value for _, value in column]) for column in zip(*columns)
    ]
    return jax.tree.unflatten(structures.pop(), stacked)


def _stack(name: str, values: Sequence[Any]) -> np.ndarray:
    if any(hasattr(value, "__array__") for value in values):
        values = [as_numpy(value, name) for value in values]
    shapes = {np.shape(value) for value in values}
    if len(shapes) > 1:
        raise ValueError(
            f"The rows of a batch have shapes {' and '.join(map(str, sorted(shapes)))} at {name or 'x'}, "
            f"expected one. Pad them to one shape."
        )
    return np.stack([np.asarray(value) for value in values])
