"""Windows over a series as batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np


class Windows:
    """Batches of windows over a series, read anew each time; `timeseries_dataset_from_array` makes it.

    Args:
        data: `(time, ...)`, the series.
        targets: `(time, ...)`, of which a window gets the entry with the number of its first step; or None.
        starts: `(windows,)` the first steps of the windows, in the order in which they are read.
        steps: `(sequence_length,)` the steps of a window, counted from its first.
        batch_size: windows of a batch; None for one window after the other, without a row axis.
    """

    def __init__(
        self,
        data: np.ndarray,
        targets: np.ndarray | None,
        starts: np.ndarray,
        steps: np.ndarray,
        batch_size: int | None,
    ):
        self._data = data
        self._targets = targets
        self._starts = starts
        self._steps = steps
        self._batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._starts) / (self._batch_size or 1))

    def __iter__(self) -> Iterator[Any]:
        size = self._batch_size
        for begin in range(0, len(self._starts), size or 1):
            yield self._windows(self._starts[begin : begin + size] if size else self._starts[begin])

    def _windows(self, starts: Any) -> Any:
        windows = self._data[starts[..., None] + self._steps]
        return windows if self._targets is None else (windows, self._targets[starts])


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "grain",
) -> Windows:
    """Returns the windows over a series, in batches, for `fit` or to iterate over.

    Args:
        data: `(time, ...)`, the series.
        targets: `(time, ...)`, whose entry with the number of a window's first step is its target; a series
            that is to be foretold is passed from the step on that follows the first window. None: no targets.
        sequence_length: steps of a window.
        sequence_stride: how far a window begins after the one before it.
        sampling_rate: how far the steps of a window are apart.
        batch_size: windows of a batch; None for one window after the other, without a row axis.
        shuffle: reads the windows in another order, the same in each iteration.
        seed: of that order, drawn by NumPy if None.
        start_index: where the part of the series begins that is used; None: at its beginning.
        end_index: where it ends, itself not used; None: at its end.
        format: what Keras would make of it, "tf" or "grain"; here it is the same for both.

    Returns:
        an object with `len`, the number of batches, that gives `(batch, sequence_length, ...)` windows, or
        pairs of those and the targets.

    Raises:
        ValueError: a number does not fit the series, or no window does.

    Examples:
        >>> import numpy as np
        >>> series = np.arange(6)
        >>> windows = timeseries_dataset_from_array(series, series[3:], sequence_length=3, batch_size=2)
        >>> [(x.tolist(), y.tolist()) for x, y in windows]
        [([[0, 1, 2], [1, 2, 3]], [3, 4]), ([[2, 3, 4]], [5])]
    """
    data = np.asarray(data)
    for name, value, limit in (
        ("sequence_length", sequence_length, None),
        ("sequence_stride", sequence_stride, len(data)),
        ("sampling_rate", sampling_rate, len(data)),
        ("batch_size", batch_size, None),
    ):
        if value is not None:
            _check(name, value, 1, limit)
    begin = 0 if start_index is None else _check("start_index", start_index, 0, len(data))
    end = len(data) if end_index is None else _check("end_index", end_index, begin + 1, len(data))
    if format not in ("tf", "grain"):
        raise ValueError(f"format is {format!r}, expected 'tf' or 'grain'. Leave it out.")
    count = end - begin - (sequence_length - 1) * sampling_rate
    if targets is not None:
        targets = np.asarray(targets)[begin:]
        count = min(count, len(targets))
    if count < 1:
        raise ValueError(
            f"No window of {sequence_length} steps, {sampling_rate} apart, lies within the "
            f"{end - begin} steps of the series with its targets, expected at least one. Pass a "
            f"longer series or shorter windows."
        )
    starts = np.arange(0, count, sequence_stride)
    if shuffle:
        starts = _shuffled(starts, np.random.randint(10**6) if seed is None else seed)  # noqa: NPY002
    steps = np.arange(0, sequence_length * sampling_rate, sampling_rate)
    return Windows(data[begin:end], targets, starts, steps, batch_size)


def _shuffled(starts: np.ndarray, seed: int) -> np.ndarray:
    """Returns `starts` in the order that Keras's dataset of grain has."""
    import grain  # slow to import

    starts = starts.copy()
    np.random.RandomState(seed).shuffle(starts)
    return starts[list(grain.MapDataset.range(len(starts)).shuffle(seed=seed))]


def _check(name: str, value: int, least: int, limit: int | None) -> int:
    too_large = limit is not None and value >= limit
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least or too_large:
        below = f" and less than {limit}, the length of the series" if limit is not None else ""
        raise ValueError(
            f"{name} is {value!r}, expected an integer of at least {least}{below}. Pass another one."
        )
    return int(value)
