"""Recognises what can be read one after the other, of any library, without importing that library."""

from __future__ import annotations

import functools
import itertools
import operator
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import GeneratorType
from typing import Any

from easyflax.data.grain_arrays import ENDLESS, Pipeline, pipeline_of
from easyflax.data.kinds import is_a, type_name
from easyflax.data.row_datasets import stack_rows
from easyflax.data.stream import Stream


def stream_of(data: Any, batch_size: int) -> Stream:
    """Returns `data` as a stream of batches.

    Args:
        data: a dataset or loader of grain, torch, TensorFlow or Hugging Face, an iterator, an iterable, or a
            callable that returns one of these.
        batch_size: rows of a batch, where `data` yields rows.

    Raises:
        ValueError: it is none of these.
    """
    if is_a(data, "grain", "MapDataset", "IterDataset", "DataLoader"):
        return _grain(data)
    if callable(getattr(data, "as_numpy_iterator", None)):
        return _tensorflow(data)
    if yields_rows(data):
        return _rows(data, batch_size)
    if hasattr(data, "__next__"):
        return _iterator(data)
    if hasattr(data, "__iter__"):
        return _iterable(data)
    if callable(data):
        return Stream(f"the {type_name(data)}", partial(_called, data, batch_size))
    raise ValueError(
        f"x is of type {type_name(data)}, expected arrays, a dataset, a generator or another iterable of "
        f"batches. Convert it first, for example with np.asarray."
    )


def yields_rows(data: Any) -> bool:
    """Returns whether `data` is an iterable of rows, not of batches."""
    return is_a(data, "torch", "IterableDataset") or is_a(data, "datasets", "IterableDataset")


def _grain(data: Any) -> Stream:
    kind = f"a grain {'DataLoader' if is_a(data, 'grain', 'DataLoader') else type(data).__name__}"
    length = len(data) if hasattr(type(data), "__len__") else None
    is_infinite = _repeats_for_ever(data)
    in_whole_batches = functools.cache(partial(pipeline_of, data))
    return Stream(
        kind,
        partial(_open_grain, data, in_whole_batches),
        length=None if is_infinite else length,
        is_infinite=is_infinite,
    )


def _open_grain(data: Any, in_whole_batches: Callable[[], Pipeline | None]) -> Iterator[Any]:
    # The worker processes of grain read absl's flags, which nobody parses outside of absl's own programs.
    flags = sys.modules.get("absl.flags")
    if flags is not None and not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    pipeline = in_whole_batches()
    return iter(data if pipeline is None else pipeline)


def _repeats_for_ever(data: Any) -> bool:
    if is_a(data, "grain", "DataLoader"):
        return getattr(getattr(data, "_sampler", None), "_num_epochs", 1) is None
    if hasattr(type(data), "__len__"):
        return len(data) > ENDLESS
    ends = any(word in type(data).__name__ for word in ("Limit", "Take"))
    parents = getattr(data, "parents", ())
    return bool(parents) and not ends and all(map(_repeats_for_ever, parents))


def _tensorflow(data: Any) -> Stream:
    cardinality = int(data.cardinality()) if hasattr(data, "cardinality") else -2
    return Stream(
        f"a {type_name(data)}",
        lambda: iter(data.as_numpy_iterator()),
        length=cardinality if cardinality >= 0 else None,
        is_infinite=cardinality == -1,
    )


def _rows(data: Any, batch_size: int) -> Stream:
    if is_a(data, "datasets", "IterableDataset"):
        open_stream: Callable[[], Iterator[Any]] = lambda: iter(  # noqa: E731
            data.with_format("numpy").iter(batch_size=batch_size)
        )
    else:
        open_stream = partial(_grouped, data, batch_size)
    return Stream(f"a {type_name(data)}", open_stream)


def _grouped(rows: Any, batch_size: int) -> Iterator[Any]:
    iterator = iter(rows)
    while group := list(itertools.islice(iterator, batch_size)):
        yield stack_rows(group)


def _iterator(data: Any) -> Stream:
    kind = "a generator" if isinstance(data, GeneratorType) else f"the iterator {type_name(data)}"
    endless = isinstance(data, itertools.count | itertools.cycle | itertools.repeat)
    is_infinite = endless and operator.length_hint(data, -1) < 0
    return Stream(kind, lambda: data, is_restartable=False, is_infinite=is_infinite)


def _iterable(data: Any) -> Stream:
    return Stream(f"a {type_name(data)}", partial(iter, data), length=_length(data))


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except TypeError:  # no `__len__`, or one that the dataset underneath does not have
        return None


def _called(data: Callable[[], Any], batch_size: int) -> Iterator[Any]:
    return stream_of(data(), batch_size).open()
