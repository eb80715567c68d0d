"""How much each row counts: sample weights, checked, and those that class weights stand for."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from easyflax.data.convert import named_leaves, to_host_arrays


def to_host_weights(sample_weight: Any, y: Any, name: str = "sample_weight") -> Any:
    """Returns `sample_weight` as NumPy arrays of floats.

    Args:
        sample_weight: an array, or a nesting of arrays and None like that of `y`; None: no weights.
        y: the targets, as NumPy arrays.
        name: what the user calls the weights, for the error messages.

    Raises:
        ValueError: they are no numbers, their nesting is not that of `y`, or there is one array with more
            than a weight a row for several outputs.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, dict | list | tuple):
        _check_nesting(sample_weight, y, name)
    weights = jax.tree.map(_as_floats, to_host_arrays(sample_weight, name))
    several = isinstance(y, dict | list | tuple)
    if several and isinstance(weights, np.ndarray) and weights.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{name} has shape {weights.shape} for {len(named_leaves(y, 'y'))} outputs, expected one weight "
            f"a row. Pass shape ({len(weights)},), or weights for each output in a nesting like that of y."
        )
    return weights


def weights_of_classes(y: Any, class_weight: Any, *, y_name: str = "y") -> np.ndarray:
    """Returns the weight of each row by its class, 1 for classes that are not named.

    Args:
        y: `(rows,)` or `(rows, 1)` labels, or `(rows, classes)`, of which the largest entry is the class.
        class_weight: a dict from the number of a class to its weight.
        y_name: what the user calls `y`, for the error messages.

    Returns:
        `(rows,)` float32.

    Raises:
        ValueError: `class_weight` is no dict of numbers, names a class that `y` has no column for, or `y` is
            missing, of several outputs, or of more axes.

    Examples:
        >>> weights_of_classes(np.array([0, 1, 2]), {0: 0.5, 2: 3.0}).tolist()
        [0.5, 1.0, 3.0]
    """
    check_class_weight(class_weight)
    labels = _labels(y, class_weight, y_name)
    named = sorted((int(label), float(weight)) for label, weight in class_weight.items())
    if not named:
        return np.ones(len(labels), np.float32)
    classes = np.asarray([label for label, _ in named])
    places = np.searchsorted(
        classes[:-1], labels
    )  # of the first class that is not smaller, or of the last one
    weights = np.asarray([weight for _, weight in named], np.float32)[places]
    return np.where(classes[places] == labels, weights, np.float32(1))


def check_class_weight(class_weight: Any) -> None:
    """Raises unless `class_weight` is a dict from numbers of classes to numbers, none of them negative."""
    if not isinstance(class_weight, Mapping):
        raise ValueError(
            f"class_weight is a {type(class_weight).__name__}, expected a dict from the number of a class to "
            f"its weight. Pass for example class_weight={{0: 1.0, 1: 5.0}}."
        )
    for label, weight in class_weight.items():
        if not isinstance(label, numbers.Real) or isinstance(label, bool) or float(label) % 1:
            raise ValueError(
                f"class_weight has the key {label!r}, expected the numbers of classes. Pass for example "
                f"class_weight={{0: 1.0, 1: 5.0}}."
            )
        if not isinstance(weight, numbers.Real) or not 0 <= float(weight) < math.inf:
            raise ValueError(
                f"class_weight[{label}] is {weight!r}, expected a finite number of at least 0. Pass 1.0 for "
                f"a class that counts as it is."
            )


def _labels(y: Any, class_weight: Mapping[int, Any], name: str) -> np.ndarray:
    if y is None or isinstance(y, dict | list | tuple):
        got = "there are no targets" if y is None else f"{name} has {len(y)} outputs"
        raise ValueError(
            f"class_weight is given and {got}, expected one array of labels. Pass sample_weight instead, in "
            f"a nesting like that of {name}."
        )
    if y.ndim > 2:
        raise ValueError(
            f"class_weight is given and {name} has shape {y.shape}, expected one label a row, as in (rows,) "
            f"or (rows, classes). Pass sample_weight instead, of shape {y.shape[:-1]} for example."
        )
    if y.ndim < 2 or y.shape[1] == 1:
        return np.round(y.reshape(-1)).astype(np.int64)
    outside = [label for label in class_weight if not 0 <= label < y.shape[1]]
    if outside:
        raise ValueError(
            f"class_weight has the key {outside[0]}, expected classes from 0 to {y.shape[1] - 1}, since "
            f"{name} has shape {y.shape}. Number the classes by the columns of {name}."
        )
    return np.argmax(y, axis=1)


def _check_nesting(weights: Any, y: Any, name: str) -> None:
    def is_end(value: Any) -> bool:
        return not isinstance(value, dict | list | tuple)

    if jax.tree.structure(weights, is_leaf=is_end) != jax.tree.structure(y, is_leaf=is_end):
        raise ValueError(
            f"{name} is a {type(weights).__name__} of {len(weights)} and y is {_described(y)}, expected the "
            f"same nesting. Pass one array of weights for each output, or one of shape (rows,) for all."
        )


def _described(y: Any) -> str:
    return f"a {type(y).__name__} of {len(y)}" if isinstance(y, dict | list | tuple) else "one array"


def _as_floats(weights: np.ndarray) -> np.ndarray:
    return weights if np.issubdtype(weights.dtype, np.floating) else weights.astype(np.float32)
