"""Datasets that give whole batches by their numbers, as `keras.utils.PyDataset` and `Sequence` do."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from easyflax.data.order import positions, shuffled_rows
from easyflax.data.prefetch import Pace, Prefetch
from easyflax.data.rows import batch_rows
from easyflax.data.source import Batch, check_no_state
from easyflax.data.to_batch import ToBatch


class PyDataset:
    """A dataset that gives batches by their numbers: derive from it.

    A subclass has `__getitem__(index)`, which returns a batch: `x`, `(x, y)` or `(x, y, sample_weight)`; and
    `__len__`, the number of batches, or the property `num_batches`, which may be None for a dataset without
    end. It may have `on_epoch_begin()` and `on_epoch_end()`.

    Args:
        workers: how many batches are made at the same time; up to 1, they are made one after the other.
        use_multiprocessing: makes them in `workers` processes instead of threads. Where the system can, they
            are forks of this one, which each begin an epoch with the dataset as it is then.
        max_queue_size: how many batches are under way or ready, at most, where there are several workers.

    Raises:
        ValueError: a number is too small.

    Examples:
        >>> import numpy as np
        >>> class Squares(PyDataset):
        ...     def __len__(self):
        ...         return 2
        ...
        ...     def __getitem__(self, index):
        ...         x = np.arange(index * 3, index * 3 + 3)
        ...         return x, x**2
        >>> [y.tolist() for x, y in Squares(workers=2)]
        [[0, 1, 4], [9, 16, 25]]
    """

    # Of subclasses that do not call `__init__`.
    workers: int = 1
    use_multiprocessing: bool = False
    max_queue_size: int = 10

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10):
        for name, value, least in (("workers", workers, 0), ("max_queue_size", max_queue_size, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"{type(self).__name__}: {name} is {value!r}, expected an integer of at least {least}. "
                    f"Leave it out for {getattr(PyDataset, name)}."
                )
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    @property
    def num_batches(self) -> int | None:
        """Batches of one pass, None for no end."""
        if not hasattr(self, "__len__"):
            raise NotImplementedError(
                f"{type(self).__name__} has no number of batches, expected __len__ or the property "
                f"num_batches. Define one of them."
            )
        return len(self)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} has no __getitem__, expected one that returns batch {index}. Define it."
        )

    def __iter__(self) -> Iterator[Any]:
        count = self.num_batches
        return (self[index] for index in (itertools.count() if count is None else range(count)))

    def on_epoch_begin(self) -> None:
        """Is called before each epoch."""

    def on_epoch_end(self) -> None:
        """Is called after each epoch."""


class PyDatasetSource:
    """A `Source` over a `PyDataset`, or any object with its methods; `as_source` makes it.

    Where that pays, a thread reads two batches ahead, and several workers more; never beyond what an epoch
    asks for.

    Args:
        dataset: with `__getitem__` and `__len__` or `num_batches`.
        to_batch: makes batches of its entries.
        seed: shuffles the order of the batches with this seed; None reads them as they are numbered.
        repeats: whether an epoch of given steps goes on where the last one ended; else each is the beginning
            of the data.
    """

    def __init__(self, dataset: Any, to_batch: ToBatch, *, seed: int | None = None, repeats: bool = True):
        self.num_rows = None
        self._dataset = dataset
        self._to_batch = to_batch
        self._pace = Pace()
        self._seed = seed
        self._repeats = repeats
        self._first: Batch | None = None

    @property
    def num_batches(self) -> int | None:
        """Batches of one pass; may change from epoch to epoch."""
        return number_of_batches(self._dataset)

    @property
    def batch_size(self) -> int:
        """Rows of the first batch."""
        return batch_rows(self.first_batch())

    @property
    def is_exhausted(self) -> bool:
        """False: batches can be read again."""
        return False

    def first_batch(self) -> Batch:
        """Returns batch 0."""
        if self._first is None:
            if self.num_batches == 0:
                raise ValueError(
                    f"{self._to_batch.caller}: {type(self._dataset).__name__} has length 0, expected at "
                    f"least one batch. Check how the data was loaded or split."
                )
            with self._to_batch.noting(0, 1):
                data = self._dataset[0]
            self._first = self._to_batch(data, 0, 1)
        return self._first

    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch, see `Source.epoch`, between the hooks of the dataset."""
        _call(self._dataset, "on_epoch_begin")
        items = Prefetch(self._batches(number, self._indices(number, steps)), pace=self._pace)
        try:
            yield from items
        finally:
            items.close()
        _call(self._dataset, "on_epoch_end")

    def state(self) -> None:
        """Returns nothing: the place in the data follows from the number of the epoch."""

    def set_state(self, state: None) -> None:
        """Goes on where `state` was taken, which is nothing to do here.

        Raises:
            ValueError: it is of data of another kind.
        """
        check_no_state(state)

    def _indices(self, number: int, steps: int | None) -> Iterator[int]:
        count = self.num_batches
        if count is None:
            if steps is None:
                return itertools.count()
            return iter(range(number * steps, (number + 1) * steps) if self._repeats else range(steps))
        places = (divmod(place, count) for place in positions(number, steps, count, repeats=self._repeats))
        if self._seed is None:
            return (index for _, index in places)
        return (int(shuffled_rows(count, self._seed, pass_number)[index]) for pass_number, index in places)

    def _batches(self, epoch: int, indices: Iterator[int]) -> Generator[Batch, None, None]:
        entries = self._entries(indices)
        for count in itertools.count(1):
            with self._to_batch.noting(epoch, count):
                entry = next(entries, None)
            if entry is None:
                return
            yield self._to_batch(entry[0], epoch, count)

    def _entries(self, indices: Iterator[int]) -> Iterator[tuple[Any]]:
        """Yields the entries, each in a tuple."""
        workers = getattr(self._dataset, "workers", 1)
        in_processes = bool(getattr(self._dataset, "use_multiprocessing", False))
        if workers > 1 or (workers == 1 and in_processes):
            with _executor(self._dataset, workers, in_processes=in_processes) as executor:
                ahead = max(1, getattr(self._dataset, "max_queue_size", 10))
                yield from _in_order(executor, self._dataset, indices, ahead, in_processes=in_processes)
        else:
            for index in indices:
                yield (self._dataset[index],)


def number_of_batches(dataset: Any) -> int | None:
    """Returns how many batches `dataset` has in one pass, None for no end."""
    if hasattr(type(dataset), "num_batches"):
        return dataset.num_batches
    return len(dataset)


def _call(dataset: Any, hook: str) -> None:
    if hasattr(dataset, hook):
        getattr(dataset, hook)()


_dataset_of_process: Any = None  # in a worker process


def _set_dataset(dataset: Any) -> None:
    global _dataset_of_process
    _dataset_of_process = dataset


def _get_entry(index: int) -> Any:
    return _dataset_of_process[index]


def _executor(dataset: Any, workers: int, *, in_processes: bool) -> Executor:
    if not in_processes:
        return ThreadPoolExecutor(workers, thread_name_prefix="easyflax-data")
    import multiprocessing  # these two are slow to import
    from concurrent.futures import ProcessPoolExecutor

    # A fork has the dataset without pickling it, and does not run the user's script again.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_set_dataset, initargs=(dataset,))


def _in_order(
    executor: Executor, dataset: Any, indices: Iterator[int], ahead: int, *, in_processes: bool
) -> Iterator[tuple[Any]]:
    """Yields the entries in the order of `indices`, up to `ahead` of them under way or ready."""
    read = _get_entry if in_processes else dataset.__getitem__
    running: deque[Future[Any]] = deque()
    try:
        for index in itertools.islice(indices, ahead):
            running.append(executor.submit(read, index))
        while running:
            entry = running.popleft().result()
            for index in itertools.islice(indices, 1):
                running.append(executor.submit(read, index))
            yield (entry,)
    finally:
        for future in running:
            future.cancel()
