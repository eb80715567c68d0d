"""Which columns of a dataset are inputs, targets and weights, where it yields dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Names = str | Sequence[str]


@dataclass(frozen=True)
class Columns:
    """A dataset of dicts with the use of its columns; `columns` makes it."""

    dataset: Any
    x: Names | None
    y: Names | None
    sample_weight: Names | None

    def pick(self, batch: Any) -> tuple[Any, Any, Any]:
        """Returns inputs, targets and weights of one batch.

        Raises:
            ValueError: the batch is no dict, or a column is not in it.
        """
        if not isinstance(batch, Mapping):
            raise ValueError(
                f"The data are a {type(batch).__name__}, expected a dict of columns, since columns are "
                f"named. Leave the names out, or yield dicts."
            )
        x = self.x if self.x is not None else self._rest(batch)
        return _taken(batch, x), _taken(batch, self.y), _taken(batch, self.sample_weight)

    def _rest(self, batch: Mapping[str, Any]) -> Names:
        used = {name for names in (self.y, self.sample_weight) for name in _listed(names)}
        rest = [name for name in batch if name not in used]
        return rest[0] if len(rest) == 1 else rest


def columns(
    dataset: Any, *, x: Names | None = None, y: Names | None = None, sample_weight: Names | None = None
) -> Columns:
    """Says which columns of a dataset are inputs, targets and weights; goes to `fit` in place of `x`.

    Args:
        dataset: a Hugging Face dataset, or any dataset whose batches are dicts.
        x: a name, whose column is the input; or a list of names, which makes the inputs a dict by these
            names. None: all columns that are not named otherwise.
        y: the same for the targets; None: there are none.
        sample_weight: the same for the weights; None: there are none.

    Raises:
        TypeError: something else than names is given.

    Examples:
        >>> import numpy as np
        >>> batch = {"age": np.ones(2), "size": np.ones(2), "label": np.array([0, 1])}
        >>> inputs, targets, _ = columns([batch], y="label").pick(batch)
        >>> sorted(inputs), targets.tolist()
        (['age', 'size'], [0, 1])
    """
    for argument, names in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        if not is_names(names) and names is not None:
            raise TypeError(
                f"columns: {argument} is a {type(names).__name__}, expected the name of a column or a list "
                f"of names. Pass for example {argument}='label'."
            )
    return Columns(dataset, x, y, sample_weight)


def is_names(value: Any) -> bool:
    """Returns whether `value` is a name or a list or tuple of names."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(name, str) for name in value)
    return isinstance(value, str)


def _listed(names: Names | None) -> list[str]:
    if names is None:
        return []
    return [names] if isinstance(names, str) else list(names)


def _taken(batch: Mapping[str, Any], names: Names | None) -> Any:
    for name in _listed(names):
        if name not in batch:
            raise ValueError(
                f"The data have no column {name!r}, expected one of {', '.join(map(repr, batch))}. "
                f"Check the name."
            )
    if names is None or isinstance(names, str):
        return None if names is None else batch[names]
    return {name: batch[name] for name in names}
