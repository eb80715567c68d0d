"""`as_source`: from whatever holds the data to a `Source` of batches."""

from __future__ import annotations

import math
import warnings
from typing import Any

import jax
import numpy as np

import easyflax.nnx as nnx
from easyflax.data.arrays import ArraySource
from easyflax.data.columns import Columns, columns, is_names
from easyflax.data.kinds import is_a, type_name
from easyflax.data.prepare import NAMES, check_batch_size, prepare
from easyflax.data.py_dataset import PyDatasetSource, number_of_batches
from easyflax.data.row_datasets import reader_of_rows
from easyflax.data.row_source import RowDatasetSource
from easyflax.data.rows import batch_rows
from easyflax.data.source import Source
from easyflax.data.stream import StreamSource
from easyflax.data.streams import stream_of, yields_rows
from easyflax.data.to_batch import ToBatch
from easyflax.data.unpack import unpack_x_y_sample_weight

VALIDATION_NAMES = ("validation_data[0]", "validation_data[1]", "validation_data[2]")
GOING_ON = ("fit", "profile")  # who reads on after a pass, where a number of steps asks for more
STEPS_ARGUMENT = {"fit": "steps_per_epoch", "validation": "validation_steps"}


def as_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    steps: int | None = None,
    class_weight: Any = None,
    caller: str = "fit",
    fallback_batch_size: int | None = None,
) -> Source:
    """Returns a source of batches over what a user hands over as data.

    What comes in rows, we group into batches and shuffle:

    - arrays of NumPy and JAX, tensors, pandas, in any nesting of dicts, lists and tuples;
    - map-style datasets of torch, and datasets of Hugging Face.

    What comes in batches of its own: `x`, `(x, y)` or `(x, y, sample_weight)`:

    - objects with `__getitem__` and a length, such as `PyDataset`, whose order we shuffle;
    - datasets and loaders of grain, `DataLoader`s of torch, `tf.data`, iterables, generators, iterators, and
      callables that return one of these, read in their own order. All but generators and iterators begin
      anew for each pass.

    All but arrays are read in a thread of their own, two batches ahead, where reading takes longer than
    handing over: what makes them must not use the model that trains on them. How many batches a generator has
    cannot be known: without `steps`, one that never ends is read for ever.

    Args:
        x: the data; or of arrays, the inputs.
        y: targets for `x`, if those are arrays. For data that are dicts of columns, names of columns (see
            `columns`).
        sample_weight: how much each row counts, see `Batch`; likewise.
        batch_size: rows of a batch; by default those that make `steps` batches, or 32.
        shuffle: reads in an order of its own for every pass, by `seed`.
        seed: a non-negative integer.
        steps: batches of an epoch, if the user said.
        class_weight: a dict from the number of a class to how much its rows count; 1 for those not in it.
        caller: who reads the data, for the error messages: "fit", "profile", "validation", "evaluate" or
            "predict". All but the first two read no more than one pass, and always its beginning.
        fallback_batch_size: `batch_size` where none is given and the data come in rows.

    Raises:
        ValueError: `shuffle` is no bool; the arrays differ in length, are empty or of a dtype that cannot be
            used; `batch_size` is less than 1; `y` or `sample_weight` are given for data that come in batches;
            or the data have no end and `steps` is None.
        TypeError: `x` is a module.

    Examples:
        >>> import numpy as np
        >>> source = as_source(np.arange(5.0), np.arange(5), batch_size=2)
        >>> [batch.y.tolist() for batch in source.epoch(0)]
        [[0, 1], [2, 3], [4]]
    """
    if not isinstance(shuffle, bool | int | np.bool_):
        raise ValueError(
            f"{caller}: shuffle is {shuffle!r}, expected True or False. Rows are shuffled over all of "
            f"the data."
        )
    if isinstance(x, nnx.Module):
        raise TypeError(
            f"{caller}: x is a {type_name(x)}, expected data. Pass arrays, or what yields batches; call the "
            "module itself to apply it to a batch."
        )
    size = fallback_batch_size if batch_size is None else batch_size
    order = {"seed": seed if shuffle else None, "repeats": caller in GOING_ON}
    if is_a(x, "datasets", "DatasetDict", "IterableDatasetDict"):
        raise ValueError(
            f"{caller}: x is a {type_name(x)} of {', '.join(map(repr, x))}, expected one dataset. Pass for "
            f"example x[{next(iter(x), 'train')!r}]."
        )
    if is_arrays(x):
        names = VALIDATION_NAMES if caller == "validation" else NAMES
        data = prepare(x, y, sample_weight, class_weight, names)
        return ArraySource(data, _rows_of_batch(size, batch_rows(data), steps), **order)
    if is_names(y) and not isinstance(x, Columns):
        x, y, sample_weight = columns(x, y=y, sample_weight=sample_weight), None, None
    x, pick = (x.dataset, x.pick) if isinstance(x, Columns) else (x, unpack_x_y_sample_weight)
    _check_alone(x, y, sample_weight, caller)
    to_batch = ToBatch(caller, class_weight, pick)
    read = reader_of_rows(x)
    if read is not None:
        return RowDatasetSource(read, to_batch, len(x), _rows_of_batch(size, len(x), steps), **order)
    if batch_size is not None and not yields_rows(x):
        warnings.warn(
            f"{caller}: batch_size is {batch_size} and x is {described(x)}, which yields batches of its own: "
            f"these are read as they come. Leave batch_size out.",
            stacklevel=3,
        )
    if gives_batches_by_number(x):
        _check_ends(x, number_of_batches(x) is None, steps, caller)
        return PyDatasetSource(x, to_batch, **order)
    stream = stream_of(x, check_batch_size(32 if size is None else size))
    _check_ends(x, stream.is_infinite, steps, caller)
    return StreamSource(stream, to_batch, repeats=caller in GOING_ON)


def is_arrays(x: Any) -> bool:
    """Returns whether `x` holds arrays, or what is taken for them, and is no dataset."""
    if x is None or isinstance(x, dict | list | tuple | str | bytes | int | float | complex):
        return True
    if hasattr(x, "__array__") or hasattr(x, "toarray") or is_a(x, "pandas", "DataFrame", "Series"):
        return True
    return not jax.tree_util.all_leaves([x])  # a class that is registered as a nesting


def gives_batches_by_number(x: Any) -> bool:
    """Returns whether `x` has the methods of a `PyDataset`."""
    if is_a(x, "torch", "DataLoader") or is_a(x, "grain", "MapDataset"):
        return False
    has_length = hasattr(type(x), "__len__") or hasattr(type(x), "num_batches")
    return hasattr(type(x), "__getitem__") and has_length


def described(x: Any) -> str:
    """Returns what `x` is, for messages."""
    return "a generator" if type_name(x) == "generator" else f"of type {type_name(x)}"


def _rows_of_batch(batch_size: Any, num_rows: int, steps: int | None) -> int:
    if batch_size is None:
        return math.ceil(num_rows / steps) if steps else 32
    return check_batch_size(batch_size)


def _check_alone(x: Any, y: Any, sample_weight: Any, caller: str) -> None:
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"{caller}: {name} is given and x is {described(x)}, expected all in x. Yield (x, y) or "
                f"(x, y, sample_weight) from it, or name columns with easyflax.data.columns."
            )


def _check_ends(x: Any, is_infinite: bool, steps: int | None, caller: str) -> None:
    if is_infinite and steps is None:
        name = STEPS_ARGUMENT.get(caller, "steps")
        raise ValueError(
            f"{caller}: x is {described(x)} without end and {name} is None, expected how many batches to "
            f"read. Pass {name}."
        )
