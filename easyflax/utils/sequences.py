"""Sequences of several lengths as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import DTypeLike

__all__ = ["pad_sequences"]


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    dtype: DTypeLike | str = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Returns sequences of several lengths as one array, the shorter padded and the longer cut.

    Args:
        sequences: each a list or an array, `(length, ...)`.
        maxlen: the length of all; that of the longest when left out.
        dtype: of the result.
        padding: `"pre"` or `"post"`: where `value` is put.
        truncating: `"pre"` or `"post"`: where entries are cut away.
        value: what is put.

    Returns:
        `(len(sequences), maxlen, ...)`.

    Raises:
        ValueError: entries have different shapes, or `padding` or `truncating` is another.

    Examples:
        >>> pad_sequences([[1, 2, 3], [4]], maxlen=2).tolist()
        [[2, 3], [0, 4]]
    """
    for argument, given in (("padding", padding), ("truncating", truncating)):
        if given not in ("pre", "post"):
            raise ValueError(
                f"pad_sequences was given {argument}={given!r}, expected 'pre' or 'post'. Pass one of these."
            )
    rows = [np.asarray(sequence) for sequence in sequences]
    filled = [row for row in rows if len(row)]
    shapes = sorted({row.shape[1:] for row in filled})
    if len(shapes) > 1:
        raise ValueError(
            f"pad_sequences was given entries of the shapes {shapes}, expected one. Convert all sequences "
            "alike."
        )
    length = max(map(len, rows), default=0) if maxlen is None else maxlen
    padded = np.full((len(rows), length, *(shapes[0] if shapes else ())), value, dtype=dtype)
    for index, row in enumerate(rows):
        kept = row[max(len(row) - length, 0) :] if truncating == "pre" else row[:length]
        start = length - len(kept) if padding == "pre" else 0
        padded[index, start : start + len(kept)] = kept
    return padded
