"""Finds the largest batch that fits into memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.errors import JaxRuntimeError

from easyflax.callbacks.message import say
from easyflax.data import Batch, Source, rebatched
from easyflax.errors import unknown_name_message
from easyflax.models.arguments import check_count, check_count_or_none
from easyflax.train.callback import Callback
from easyflax.train.plan import Plan

__all__ = ["BatchSizeFinder"]

_MODES = ("power", "binsearch")
_GIB = 2**30


class BatchSizeFinder(Callback):
    """Trains with the largest batch whose step fits into the memory of a device.

    Before `fit` begins, the step is compiled for larger and larger batches, and XLA is asked how much memory
    each needs: nothing is run, and no device runs out of memory. What other callbacks add to the step counts
    if they stand before this one. Data that come in batches of their own cannot be batched anew. The learning
    rate stays as it is, although a larger batch often wants a larger one.

    Args:
        mode: `"power"` doubles the batch until it fits no longer; `"binsearch"` then halves the gap between
            the last that fitted and the first that did not.
        init_val: rows of the first batch that is tried; on several devices rounded up to a multiple of them.
        max_trials: how many batches are tried at most; each is compiled for.
        max_val: the largest batch that is wanted, by default all rows.
        margin: share of the memory that is left free, for what the step does not account for.
        memory_limit: bytes of a device; by default those that it tells, on a CPU the machine's memory.
        verbose: whether the size that was found is printed.

    Raises:
        ValueError: an argument has no meaning; in `fit`, the data come in batches of their own, steps are
            not compiled, the memory of the device is not known, or not even the first batch fits.

    Attributes:
        batch_size: the rows of a batch that was found, None before.
        memory: bytes that each size needs that was tried, by size; None for one that could not be compiled.
    """

    def __init__(
        self,
        mode: str = "power",
        init_val: int = 2,
        max_trials: int = 25,
        *,
        max_val: int | None = None,
        margin: float = 0.05,
        memory_limit: int | None = None,
        verbose: bool = True,
    ):
        super().__init__()
        owner = type(self).__name__
        if mode not in _MODES:
            raise ValueError(f"{owner}: {unknown_name_message('mode', mode, _MODES)}")
        if not 0 <= margin < 1:
            raise ValueError(
                f"{owner}: margin is {margin!r}, expected a share of at least 0 and below 1. Pass for "
                "example 0.05."
            )
        self.mode = mode
        self.init_val = check_count("init_val", init_val, 1, owner)
        self.max_trials = check_count("max_trials", max_trials, 1, owner)
        self.max_val = check_count_or_none("max_val", max_val, owner)
        self.margin = margin
        self.memory_limit = check_count_or_none("memory_limit", memory_limit, owner)
        self.verbose = verbose
        self.batch_size: int | None = None
        self.memory: dict[int, int | None] = {}

    def configure(self, plan: Plan) -> Plan:
        """Returns the plan with the data in batches of the size that was found."""
        source = rebatched(plan.source, plan.source.batch_size)
        if source is None or source.num_rows is None:
            raise ValueError(
                "BatchSizeFinder: the data come in batches of their own, expected rows that can be batched "
                "anew. Pass arrays or a dataset of rows, or set the size of batches where they are made."
            )
        self.memory = {}
        unit = max(len(plan.devices), 1)
        largest = min(self.max_val or source.num_rows, source.num_rows)
        first = min(-(-self.init_val // unit) * unit, largest)
        limit = self._limit(plan) * (1 - self.margin)
        found = self._search(first, largest, unit, lambda rows: self._fits(plan, rows, limit))
        if found is None:
            raise ValueError(
                f"BatchSizeFinder: a batch of {first} rows needs {_spelled(self.memory[first])}, expected at "
                f"most {_spelled(limit)} (margin={self.margin}). Pass a smaller init_val, or make the model "
                "smaller."
            )
        self.batch_size = found
        if self.verbose:
            needs = _spelled(self.memory[found])
            say(f"BatchSizeFinder: batch_size={found} needs {needs} of {_spelled(limit)} on each device")
        chosen = rebatched(plan.source, found)
        assert chosen is not None  # as before
        return replace(plan, source=chosen)

    def _search(self, first: int, largest: int, unit: int, fits: Callable[[int], bool]) -> int | None:
        """Returns the largest number of rows that was found to fit; None if the first does not."""
        fitted, failed = None, None
        rows = first
        for _ in range(self.max_trials):
            if fits(rows):
                fitted = rows
            else:
                failed = rows
            if failed is None:
                following = min(2 * rows, largest)
            elif fitted is None or self.mode == "power":
                break
            else:
                following = (fitted + failed) // (2 * unit) * unit
            if following in (fitted, failed) or following <= (fitted or 0):
                break
            rows = following
        return fitted

    def _fits(self, plan: Plan, rows: int, limit: float) -> bool:
        self.memory[rows] = needed = self._needed(plan, rows)
        return needed is not None and needed <= limit

    def _needed(self, plan: Plan, rows: int) -> int | None:
        """Returns the bytes that a step needs on each device; None if it cannot even be compiled."""
        lowered = self.model.lowered_step(_batch_of(plan.source, rows), plan.shape)
        if lowered is None:
            raise ValueError(
                "BatchSizeFinder: the model is run eagerly, expected compiled steps, of which XLA tells the "
                "memory. Compile the model with run_eagerly=False."
            )
        try:
            analysis = lowered.compile().memory_analysis()
        except JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                return None
            raise
        if analysis is None:
            raise ValueError(
                "BatchSizeFinder: XLA does not tell how much memory a step needs on this device, expected "
                "that it does. Leave the callback out, and pass batch_size."
            )
        return (
            analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes
            - analysis.alias_size_in_bytes
            + analysis.temp_size_in_bytes
            + analysis.generated_code_size_in_bytes
        )

    def _limit(self, plan: Plan) -> int:
        found = self.memory_limit or min(map(_memory_limit, plan.devices), default=0)
        if not found:
            raise ValueError(
                "BatchSizeFinder: the device does not tell how much memory it has, expected that it does. "
                "Pass memory_limit in bytes."
            )
        return found


def _memory_limit(device: Any) -> int:
    """Returns the bytes that a device has, 0 if nobody tells."""
    stats = device.memory_stats() or {}
    if device.platform == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(jax.local_devices())
    return int(stats.get("bytes_limit", 0))


def _batch_of(source: Source, rows: int) -> Batch:
    """Returns shapes and dtypes of a batch of so many rows."""

    def spec(array: Any) -> jax.ShapeDtypeStruct:
        array = np.asarray(array) if not hasattr(array, "dtype") else array
        return jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype)

    return jax.tree.map(spec, source.first_batch())


def _spelled(number: float | None) -> str:
    if number is None:
        return "more memory than there is"
    return f"{number / _GIB:.1f} GiB" if number >= _GIB else f"{number / 2**20:.1f} MiB"
