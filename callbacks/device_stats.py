"""Logs how much memory training takes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from easyflax.callbacks.update_freq import BatchCounter, check_update_freq
from easyflax.train.callback import Callback
from easyflax.train.logs import add_to_logs

__all__ = ["DeviceStats", "memory_of"]

_MIB = 2**20


class DeviceStats(Callback):
    """Adds memory to the logs: `memory_mib`, in use now, and `memory_peak_mib`, the most so far.

    Of several devices those of the fullest one. On a CPU it is the memory of the process, as far as the
    operating system tells.

    Args:
        update_freq: `"epoch"`; `"batch"`, or a number of batches, for the logs of every so many batches too.

    Raises:
        ValueError: `update_freq` is none of these.
    """

    def __init__(self, update_freq: str | int = "epoch"):
        super().__init__()
        self._batches = BatchCounter(check_update_freq(type(self).__name__, update_freq))
        self.update_freq = update_freq
        if self._batches.every:
            self.on_train_batch_end = self._log_batch

    def next_batch_needed(self, batch: int) -> int | None:
        """Returns the batch after which something is logged next."""
        return self._batches.next_due(batch)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._batches.start()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        self._batches.start_epoch()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        del epoch
        add_to_logs(logs, self._stats())

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of batches so far: a resumed run counts on."""
        return self._batches.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counts on from the batches of `state`."""
        self._batches.restore(state)

    def _log_batch(self, batch: int, logs: Any = None) -> None:
        if self._batches.is_due(batch):
            add_to_logs(logs, self._stats())

    def _stats(self) -> dict[str, float]:
        devices = () if self.plan is None else self.plan.devices
        found = [memory_of(device) for device in devices]
        names = found[0] if found else ()
        return {f"{name}_mib": max(stats[name] for stats in found) / _MIB for name in names}


def memory_of(device: Any) -> dict[str, float]:
    """Returns the bytes in use on a device, and the most so far, as far as anybody tells.

    Examples:
        >>> import jax
        >>> memory_of(jax.devices("cpu")[0])["memory_peak"] > 0
        True
    """
    if device.platform == "cpu":
        return _memory_of_process()
    stats = device.memory_stats() or {}
    names = {"memory": "bytes_in_use", "memory_peak": "peak_bytes_in_use"}
    return {name: float(stats[key]) for name, key in names.items() if key in stats}


def _memory_of_process() -> dict[str, float]:
    found: dict[str, float] = {}
    with suppress(ImportError):
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        found["memory_peak"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
        with suppress(OSError):  # on Linux only
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            found["memory"] = float(pages * resource.getpagesize())
    return found
