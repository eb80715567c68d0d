"""Pipelines of grain over arrays in memory, read in whole batches instead of row by row.

A `grain.MapDataset` is a chain of datasets that maps the number of an element to numbers further down, and
at its end to rows. Here arrays of numbers go through the same chain, and a batch is one take from each array:
the same batches in the same order. Known are the datasets that only choose and order rows. Where there is
anything else, such as a function of the user's, or a sample of rows is not what grain gives, grain reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.data.index_shuffle import MOST_ROWS, grain_order
from easyflax.data.rows import take

Numbers = np.ndarray  # int64

ENDLESS = 2**48  # grain gives a dataset that repeats for ever a length of about 2**63


class _UnknownError(Exception):
    """The pipeline does something that is not known here."""


@dataclass(frozen=True)
class Elements:
    """What a dataset of grain gives by numbers, which may be beyond its length: then of a further pass.

    Attributes:
        length: of one pass.
        read: returns the rows of an array of numbers, stacked; of batches, the batch of a number.
        sample: returns one as grain reads it.
    """

    length: int
    read: Callable[[Any], Any]
    sample: Callable[[int], Any]


@dataclass(frozen=True)
class Pipeline:
    """Batches of rows; `pipeline_of` makes it.

    Attributes:
        length: how far `place` counts: in batches, or in rows where grain batches an iterator of rows.
        step: how far a batch moves it.
        drops_rest: whether a last batch of less is left out.
        read: returns the batch from one place up to another.
        to_state: returns the state that grain's own iterator has at a place.
        to_place: returns the place of such a state.
    """

    length: int
    step: int
    drops_rest: bool
    read: Callable[[int, int], Any]
    to_state: Callable[[int], Any]
    to_place: Callable[[Any], int]

    def __iter__(self) -> PipelineIterator:
        return PipelineIterator(self)


class PipelineIterator(Iterator[Any]):
    """Iterates over a pipeline, with the states of grain's own iterator."""

    def __init__(self, pipeline: Pipeline):
        self._pipeline = pipeline
        self._place = 0

    def __next__(self) -> Any:
        begin, pipeline = self._place, self._pipeline
        end = min(begin + pipeline.step, pipeline.length)
        self._place = end
        if end == begin or (pipeline.drops_rest and end - begin < pipeline.step):
            raise StopIteration
        return pipeline.read(begin, end)

    def get_state(self) -> Any:
        """Returns the state of grain's own iterator."""
        return self._pipeline.to_state(self._place)

    def set_state(self, state: Any) -> None:
        """Goes on where a state was taken."""
        self._place = self._pipeline.to_place(state)


def pipeline_of(data: Any) -> Pipeline | None:
    """Returns what a dataset or loader of grain does, None where that is not all known.

    Args:
        data: a `MapDataset`, `IterDataset` or `DataLoader`.
    """
    try:
        pipeline = _pipeline(data)
        is_same = iter(data).get_state() == pipeline.to_state(0)
    except (_UnknownError, AttributeError, LookupError, TypeError, ValueError):  # of another version of grain
        return None
    return pipeline if is_same else None


def _pipeline(data: Any) -> Pipeline:
    kind = _kind(data)
    if kind == "DataLoader":
        return _loader(data)
    if kind == "BatchIterDataset":
        rows = _rows(_only_parent(_only_parent(data, "PrefetchIterDataset")))
        return _of_rows(rows, data, lambda place: {"next_index": place}, lambda state: state["next_index"])
    batches = _batches(_only_parent(data) if kind == "PrefetchIterDataset" else data)
    return Pipeline(
        batches.length,
        1,
        False,
        lambda begin, _: batches.read(begin),
        lambda place: {"next_index": place},
        lambda state: state["next_index"],
    )


def _of_rows(
    rows: Elements, batch: Any, to_state: Callable[[int], Any], to_place: Callable[[Any], int]
) -> Pipeline:
    """Returns the batches of rows that follow each other, as `batch` makes them."""
    _check(rows, passes=1)
    size, drops_rest = _batch_size(batch)
    return Pipeline(
        rows.length, size, drops_rest, lambda *ends: rows.read(np.arange(*ends)), to_state, to_place
    )


# -- loaders


def _loader(loader: Any) -> Pipeline:
    sampler, shards = loader._sampler, loader._shard_options
    operations = loader._operations
    if len(operations) != 1 or _kind(operations[0]) != "Batch" or loader.multiprocessing_options.num_workers:
        raise _UnknownError
    keys, length = _keys(sampler)
    count, index = shards.shard_count, shards.shard_index
    source = _array(loader._data_source)
    rows = Elements(
        length // count,
        lambda numbers: take(source, keys(numbers * count + index) % len(source)),
        lambda number: source[sampler[number * count + index].record_key],
    )
    state = json.loads(iter(loader).get_state())
    if state["last_seen_indices"] != {"0": index - count}:
        raise _UnknownError

    def to_state(place: int) -> bytes:
        seen = {"0": index + (place - 1) * count}
        return json.dumps({**state, "last_seen_indices": seen}, indent=4).encode()

    def to_place(now: bytes) -> int:
        iter(loader).set_state(now)  # which checks that it is of this loader
        return (json.loads(now)["last_seen_indices"]["0"] - index) // count + 1

    return _of_rows(rows, operations[0], to_state, to_place)


def _keys(sampler: Any) -> tuple[Callable[[Numbers], Numbers], int]:
    """Returns which rows a sampler of grain chooses, and how many."""
    kind = _kind(sampler)
    if kind == "SequentialSampler":
        return (lambda numbers: numbers), len(sampler)
    if kind != "IndexSampler":
        raise _UnknownError
    keys, count = _rows(sampler._record_keys), sampler._shard_options.shard_count
    return (lambda numbers: keys.read(numbers // count)), len(sampler)


# -- datasets


def _batches(dataset: Any) -> Elements:
    kind = _kind(dataset)
    if kind == "BatchMapDataset":
        rows = _rows(_only_parent(dataset))
        _check(rows, passes=2)
        size, _ = _batch_size(dataset)
        length = len(dataset)

        def read(number: int) -> Any:
            pass_number, index = divmod(number, length)
            begin, end = index * size, min((index + 1) * size, rows.length)
            return rows.read(np.arange(begin, end) + pass_number * rows.length)

        return Elements(length, read, dataset.__getitem__)
    if kind == "ZipMapDataset":
        parents = [_batches(parent) for parent in dataset.parents]
        return Elements(
            len(dataset), lambda number: tuple(p.read(number) for p in parents), dataset.__getitem__
        )
    number_below, parent = _numbers_below(dataset), _batches(_only_parent(dataset))
    return Elements(
        len(dataset),
        lambda number: parent.read(int(number_below(np.array([number]))[0])),
        dataset.__getitem__,
    )


def _rows(dataset: Any) -> Elements:
    kind = _kind(dataset)
    if kind == "SourceMapDataset":
        array = _array(dataset._source)
        read: Callable[[Numbers], Any] = lambda numbers: take(array, numbers % len(array))  # noqa: E731
    elif kind == "RangeMapDataset":
        start, step, length = dataset.start, dataset.step, len(dataset)
        read = lambda numbers: start + numbers % length * step  # noqa: E731
    elif kind == "ZipMapDataset":
        parents = [_rows(parent) for parent in dataset.parents]
        read = lambda numbers: tuple(parent.read(numbers) for parent in parents)  # noqa: E731
    else:
        below, parent = _numbers_below(dataset), _rows(_only_parent(dataset))
        read = lambda numbers: parent.read(below(numbers))  # noqa: E731
    return Elements(len(dataset), read, dataset.__getitem__)


def _numbers_below(dataset: Any) -> Callable[[Numbers], Numbers]:
    """Returns the map from numbers of elements of a dataset to those of its only parent."""
    makers: dict[str, Callable[[Any], Callable[[Numbers], Numbers]]] = {
        "_WithSeedMapDataset": lambda _: lambda numbers: numbers,
        "RepeatMapDataset": _repeat,
        "ShuffleMapDataset": _shuffle,
        "SliceMapDataset": _slice,
        "_ShardMapDataset": _shard,
    }
    if _kind(dataset) not in makers:
        raise _UnknownError
    return makers[_kind(dataset)](dataset)


def _repeat(dataset: Any) -> Callable[[Numbers], Numbers]:
    length = len(_only_parent(dataset))
    return (lambda numbers: numbers) if dataset._reseed_each_epoch else (lambda numbers: numbers % length)


def _shuffle(dataset: Any) -> Callable[[Numbers], Numbers]:
    length, seed = len(dataset), dataset._seed
    if length > MOST_ROWS:
        raise _UnknownError

    def in_pass(places: Numbers, number: int) -> Numbers:
        return grain_order(length, (seed + number) % 2**32)[places] + np.int64(number * length)

    def shuffled(numbers: Numbers) -> Numbers:
        passes, places = np.divmod(numbers, length)
        if passes.min() == passes.max():
            return in_pass(places, int(passes[0]))
        below = np.empty_like(numbers)
        for number in np.unique(passes):
            below[passes == number] = in_pass(places[passes == number], int(number))
        return below

    return shuffled


def _slice(dataset: Any) -> Callable[[Numbers], Numbers]:
    length, below = len(dataset), len(_only_parent(dataset))
    start, step = dataset._start, dataset._step

    def sliced(numbers: Numbers) -> Numbers:
        passes, places = np.divmod(numbers, length)
        return start + places * step + passes * below

    return sliced


def _shard(dataset: Any) -> Callable[[Numbers], Numbers]:
    length, below, start = len(dataset), len(_only_parent(dataset)), dataset._start

    def sharded(numbers: Numbers) -> Numbers:
        passes, places = np.divmod(numbers, length)
        return start + places + passes * below

    return sharded


# -- what a pipeline consists of


def _kind(value: Any) -> str:
    """Returns the name of the class of `value` if it is of grain itself, not derived from one."""
    return type(value).__name__ if type(value).__module__.partition(".")[0] == "grain" else ""


def _only_parent(dataset: Any, kind: str | None = None) -> Any:
    (parent,) = dataset.parents
    if kind is not None and _kind(parent) != kind:
        raise _UnknownError
    return parent


def _array(source: Any) -> np.ndarray:
    """Returns the array that a source is, if its rows stacked are what a take gives."""
    if type(source) not in (np.ndarray, np.memmap) and not isinstance(source, jax.Array):
        raise _UnknownError
    array = np.asarray(source)
    is_number = jnp.issubdtype(array.dtype, np.number) or array.dtype == bool
    if not is_number or not array.dtype.isnative or not array.size:
        raise _UnknownError
    return array


def _batch_size(batch: Any) -> tuple[int, bool]:
    """Returns the rows of a batch, and whether a rest is dropped, of a batching that only stacks."""
    if _kind(batch) == "Batch":  # an operation of a loader
        size, drops_rest, stacks = batch.batch_size, batch.drop_remainder, batch.batch_fn is None
    else:
        size, drops_rest, function = batch._batch_size, batch._drop_remainder, batch._batch_fn
        name = getattr(function, "__name__", type(function).__name__)
        module = str(getattr(function, "__module__", type(function).__module__))
        stacks = module.partition(".")[0] == "grain" and name in ("make_batch", "_MakeBatchParallel")
    if not stacks:
        raise _UnknownError
    return size, drops_rest


def _check(rows: Elements, *, passes: int) -> None:
    """Raises unless a sample of the rows of some passes is what grain itself gives."""
    length = rows.length
    if length < 1:
        raise _UnknownError
    numbers = {0, length // 2, length - 1, length, length + length // 3} if length < ENDLESS else {0, 1}
    numbers = {number for number in numbers if number < passes * length}
    for number in sorted(numbers):
        expected, got = jax.tree.flatten(rows.sample(number)), jax.tree.flatten(rows.read(np.array([number])))
        same = all(_is_same(np.asarray(a), b[0]) for a, b in zip(expected[0], got[0]))
        if expected[1] != got[1] or not same:
            raise _UnknownError


def _is_same(expected: np.ndarray, got: Any) -> bool:
    kinds = (expected.dtype, expected.shape) == (got.dtype, got.shape)
    return kinds and expected.tobytes() == got.tobytes()
