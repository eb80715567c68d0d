"""Logs how fast training is: rows, tokens and floating-point operations a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from easyflax.data import Batch, WatchedSource, batch_rows
from easyflax.train.callback import Callback
from easyflax.train.plan import Plan
from easyflax.train.step_costs import costs_of

__all__ = ["ThroughputMonitor"]

# What makers state for bfloat16 or float16 in matrix units, without sparsity; per chip, in 1e12 operations a
# second. Longer names first, since the first that is found counts.
_PEAKS = {
    "NVIDIA B200": 2250.0,
    "NVIDIA GH200": 989.0,
    "NVIDIA H200": 989.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100": 989.0,
    "NVIDIA A100": 312.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA L4": 121.0,
    "NVIDIA A10": 125.0,
    "Tesla V100": 125.0,
    "Tesla T4": 65.0,
    "TPU v6 lite": 918.0,
    "TPU v5 lite": 197.0,
    "TPU v5": 459.0,
    "TPU v4": 275.0,
    "TPU v3": 123.0,
}


class ThroughputMonitor(Callback):
    """Adds speeds to the logs of each epoch: they cost nothing within steps.

    `rows_per_second` and `batches_per_second`, with `length_fn` `tokens_per_second`; and where XLA tells how
    many operations a step has, `flops_per_second` of all devices together and, where their peak is known,
    `share_of_peak`. The time is that of training, without validation, and in the first epoch of a fit without
    the first step, which compiles.

    Args:
        batch_size_fn: returns the rows of a batch, `(x, y, sample_weight)` of arrays; by default the length
            of the first array of `x`.
        length_fn: returns the tokens of a batch, for example `lambda batch: batch[0].size`.
        available_flops: operations a second that one device can do at most; by default what its maker states
            for half-size types, where that is known here.
        flops: whether operations are counted, for which the step is traced at the beginning of `fit`.

    Raises:
        ValueError: `available_flops` is no positive number.

    Attributes:
        flops_of_step: floating-point operations of the compiled step for one batch, None when unknown.
    """

    def __init__(
        self,
        batch_size_fn: Callable[[Any], int] | None = None,
        length_fn: Callable[[Any], int] | None = None,
        *,
        available_flops: float | None = None,
        flops: bool = True,
    ):
        super().__init__()
        if available_flops is not None and not available_flops > 0:
            raise ValueError(
                f"ThroughputMonitor: available_flops is {available_flops!r}, expected a positive number of "
                "operations a second. Pass for example 312e12."
            )
        self.batch_size_fn = batch_size_fn
        self.length_fn = length_fn
        self.available_flops = available_flops
        self.flops = flops
        self.flops_of_step: float | None = None
        self._counts: dict[str, float] = {}
        self._is_compiled = False
        self._unmeasured = 1
        self._began = self._ended = 0.0

    def configure(self, plan: Plan) -> Plan:
        """Has the batches counted on their way into training."""
        return replace(plan, source=WatchedSource(plan.source, self._count))

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._is_compiled = False
        self._unmeasured = self.model.steps_per_execution
        self.flops_of_step = self._flops_of_step() if self.flops else None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        self._start()

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._ended = self._ended or time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        del epoch
        seconds = (self._ended or time.perf_counter()) - self._began
        self._is_compiled = True
        if logs is None or seconds <= 0:
            return
        logs.update({f"{name}_per_second": count / seconds for name, count in self._counts.items()})
        if self.flops_of_step is not None:
            flops = self.flops_of_step * self._counts["batches"] / seconds
            logs["flops_per_second"] = flops
            peak = self._peak()
            if peak is not None:
                logs["share_of_peak"] = flops / peak

    def _start(self) -> None:
        tokens = {"tokens": 0.0} if self.length_fn else {}
        self._counts = {"rows": 0.0, "batches": 0.0, **tokens}
        self._began, self._ended = time.perf_counter(), 0.0

    def _count(self, epoch: int, count: int, batch: Batch) -> None:
        del epoch
        if not self._is_compiled and count == self._unmeasured:
            self._start()  # what came before was compiled for
        seen = batch.x, batch.y, batch.sample_weight
        rows = batch_rows(batch) if self.batch_size_fn is None else self.batch_size_fn(seen)
        self._counts["rows"] += rows
        self._counts["batches"] += 1
        if self.length_fn is not None:
            self._counts["tokens"] += self.length_fn(seen)

    def _flops_of_step(self) -> float | None:
        plan = self.plan
        lowered = None if plan is None else self.model.lowered_step(plan.source.first_batch(), plan.shape)
        return costs_of(lowered).flops

    def _peak(self) -> float | None:
        """Returns how many operations a second all devices could do; None when unknown."""
        devices = () if self.plan is None else self.plan.devices
        each = [self.available_flops or known_peak(device) for device in devices]
        return None if None in each or not each else sum(filter(None, each))


def known_peak(device: Any) -> float | None:
    """Returns what the maker of a device states as its operations a second in half-size types, if known.

    Examples:
        >>> import jax
        >>> known_peak(jax.devices("cpu")[0]) is None
        True
    """
    found = [peak for name, peak in _PEAKS.items() if name in device.device_kind]
    return found[0] * 1e12 if found else None
