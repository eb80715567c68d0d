"""From what a dataset yields to a `Batch`, checked against the batches before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from easyflax.data.convert import leaf_name, to_host_array
from easyflax.data.prepare import NAMES, prepare
from easyflax.data.source import Batch
from easyflax.data.unpack import unpack_x_y_sample_weight

Kinds = tuple[Any, list[tuple[str, np.dtype[Any], int]]]


class ToBatch:
    """Makes batches of what a dataset yields.

    Args:
        caller: who reads the data, for the error messages.
        class_weight: see `as_source`.
        pick: returns inputs, targets and weights of what is yielded.
    """

    def __init__(
        self,
        caller: str = "fit",
        class_weight: Any = None,
        pick: Callable[[Any], tuple[Any, Any, Any]] = unpack_x_y_sample_weight,
    ):
        self.caller = caller
        self._class_weight = class_weight
        self._pick = pick
        self._first: Kinds | None = None

    def __call__(self, data: Any, epoch: int, number: int) -> Batch:
        """Returns `data` as a batch.

        Args:
            data: what the dataset yielded.
            epoch: from 0.
            number: of the batch in the epoch, from 1.

        Raises:
            ValueError: an array cannot be used, or is of another kind than in the first batch.
        """
        try:
            x, y, sample_weight = self._pick(data)
            if x is None:
                raise ValueError("x is None, expected the inputs. Yield x, (x, y) or (x, y, sample_weight).")
            picked = (x, None, None) if self.caller == "predict" else (x, y, sample_weight)
            batch = self._like_first(picked)
            if batch is None:
                batch = prepare(*picked, None if self.caller == "predict" else self._class_weight)
                self._check_alike(batch)
        except ValueError as error:
            raise ValueError(f"{self.caller}: batch {number} of epoch {epoch + 1}: {error}") from error
        return batch

    @contextmanager
    def noting(self, epoch: int, number: int) -> Iterator[None]:
        """Adds the number of the batch to an exception that the data raise."""
        try:
            yield
        except Exception as error:
            error.add_note(f"{self.caller}: raised by the data, for batch {number} of epoch {epoch + 1}.")
            raise

    def _like_first(self, picked: tuple[Any, Any, Any]) -> Batch | None:
        """Returns the batch where it is like the first one, which was checked; None where that is not plain.

        That is most batches, and saves most of the time that a small one takes.
        """
        _, y, sample_weight = picked
        has_several_weights = sample_weight is not None and isinstance(y, dict | list | tuple)
        if self._first is None or self._class_weight is not None or has_several_weights:
            return None
        try:
            leaves, structure = jax.tree.flatten(picked)
        except ValueError:  # keys of several types, which `prepare` refuses by name
            return None
        if structure != self._first[0]:
            return None
        arrays, rows = [], None
        for leaf, (name, dtype, axes) in zip(leaves, self._first[1]):
            if type(leaf) is not np.ndarray or leaf.dtype != dtype:
                leaf = to_host_array(leaf, name)
            if leaf.dtype != dtype or leaf.ndim != axes:
                return None
            rows = len(leaf) if rows is None else rows
            if len(leaf) != rows or not rows:
                return None
            arrays.append(leaf)
        return Batch(*structure.unflatten(arrays))

    def _check_alike(self, batch: Batch) -> None:
        kinds = _kinds(batch)
        self._first = self._first or kinds
        if kinds[0] != self._first[0]:
            raise ValueError(
                f"the arrays are {_names(kinds)}, expected {_names(self._first)}, as in the first batch. "
                f"Yield the same arrays in the same nesting each time."
            )
        for (name, dtype, axes), (_, first_dtype, first_axes) in zip(kinds[1], self._first[1]):
            if (dtype, axes) != (first_dtype, first_axes):
                raise ValueError(
                    f"{name} has dtype {dtype} and {axes} axes, expected {first_dtype} and {first_axes} as "
                    f"in the first batch. Yield arrays of one kind."
                )


def _kinds(batch: Batch) -> Kinds:
    """Returns the nesting of the arrays, and the name, dtype and number of axes of each."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tuple(batch[:3]))
    return structure, [
        (leaf_name(NAMES[path[0].idx], path[1:]), leaf.dtype, leaf.ndim) for path, leaf in leaves
    ]


def _names(kinds: Kinds) -> str:
    return ", ".join(name for name, _, _ in kinds[1])
