"""Writes the logs to a file of JSON lines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from easyflax.callbacks.log_file import LogFile
from easyflax.callbacks.update_freq import BatchCounter, check_update_freq
from easyflax.train.callback import Callback

__all__ = ["JSONLogger"]


class JSONLogger(Callback):
    """Writes a line of JSON for each epoch, and for batches if asked to.

    A line has `epoch`, counted from 0, the number of training steps so far as `step`, in a line for a batch
    also `batch`, and the logs by name. What is no finite number is null, an array a list.
    `pandas.read_json(filename, lines=True)` reads it.

    Args:
        filename: of the file; missing folders are made.
        append: writes behind what is in the file.
        update_freq: `"epoch"`; `"batch"` for lines of batches as well, or a number of batches, counted across
            epochs, for one of every so many. Their logs are those of the epoch so far, and reading them waits
            for the device.

    Raises:
        ValueError: `update_freq` is none of these.
        OSError: in `fit`, the file cannot be written; said before training.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> logger = JSONLogger(folder / "log.jsonl")
        >>> logger.on_train_begin()
        >>> logger.on_epoch_end(0, {"loss": 0.5, "accuracy": float("nan")})
        >>> (folder / "log.jsonl").read_text()
        '{"epoch": 0, "step": 0, "loss": 0.5, "accuracy": null}\\n'
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        append: bool = False,
        update_freq: str | int = "epoch",
    ):
        super().__init__()
        self.filename = os.fspath(filename)
        self.append = append
        self.update_freq = update_freq
        every = check_update_freq(type(self).__name__, update_freq)
        self._file = LogFile(type(self).__name__, filename, append)
        self._batches = BatchCounter(every)
        self._epoch = 0
        if every:
            self.on_train_batch_end = self._write_batch

    def next_batch_needed(self, batch: int) -> int | None:
        """Returns the batch after which something is logged next."""
        return self._batches.next_due(batch)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._file.begin()
        self._batches.start()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._epoch = epoch
        self._batches.start_epoch()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._write({"epoch": epoch, "step": self._step()}, logs)

    def state_dict(self) -> dict[str, Any]:
        """Returns how long the file is, and the batches so far: a resumed run goes on there."""
        return {**self._file.state(), **self._batches.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the file where `state` was taken; lines that came after it are removed."""
        self._file.restore(state)
        self._batches.restore(state)

    def _write_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._batches.is_due(batch):
            self._write({"epoch": self._epoch, "batch": batch, "step": self._step()}, logs)

    def _write(self, where: dict[str, int], logs: Mapping[str, Any] | None) -> None:
        line = {**where, **{name: plain_json(value) for name, value in (logs or {}).items()}}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")

    def _step(self) -> int:
        return 0 if self.model is None else self.model.step


def plain_json(value: Any) -> Any:
    """Returns a logged value as JSON has it: arrays as lists, what is not finite as None.

    Examples:
        >>> plain_json(np.array([1.0, np.inf])), plain_json(np.float32(0.5)), plain_json("warm")
        ([1.0, None], 0.5, 'warm')
    """
    if isinstance(value, Mapping):
        return {str(name): plain_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(part) for part in value]
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "dtype"):
        return plain_json(np.asarray(value).tolist())
    return str(value)
