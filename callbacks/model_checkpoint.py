"""Saves the model while it trains."""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyflax.callbacks.message import say
from easyflax.callbacks.monitor import Monitor
from easyflax.callbacks.paths import check_folder_writable
from easyflax.checkpoint import CheckpointWriter, checkpoints_in
from easyflax.errors import unknown_name_message
from easyflax.train.callback import Callback

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Callback):
    """Saves the model after epochs or batches, in the background; arguments and file names are Keras's.

    A checkpoint is a folder that Orbax writes; `model.load_checkpoint(filepath)` restores it, and training
    then goes on as if it had not stopped. An older checkpoint is deleted only when its successor is complete,
    and a state with NaN in it is never kept.

    Args:
        filepath: the folder. It may name `{epoch}` (counted from 1), `{batch}` and any log, as in
            `"runs/{epoch:02d}-{val_loss:.2f}"`; each name then is a folder of its own, else one is written
            again and again.
        monitor: the name in the logs that `save_best_only` goes by.
        verbose: 1 says what is saved.
        save_best_only: save only when the monitor is better than ever.
        save_weights_only: save parameters and batch statistics only; else also the optimizer, rng and
            counters.
        mode: `"min"`, `"max"`, or `"auto"`, which knows the direction of the loss and of the model's metrics.
        save_freq: `"epoch"`, or a number of batches, which are counted across epochs. The logs are then those
            of the epoch so far, and reading them (for a monitor or a name) waits for the device.
        initial_value_threshold: a value that the first one saved must beat.
        max_to_keep: the number of checkpoints to keep, the last ones, whatever their names; None keeps the
            last one under every name.

    Raises:
        ValueError: an argument has no meaning; in `fit`, the monitor or a name in `filepath` is not in the
            logs.
        OSError: in `fit`, the folder cannot be written, said before training; or the last save failed, for
            example because the disk is full.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        max_to_keep: int | None = None,
    ):
        super().__init__()
        self._monitor = Monitor(type(self).__name__, monitor, mode)
        self.filepath = os.fspath(filepath)
        list(string.Formatter().parse(self.filepath))  # an unfinished {field} is a ValueError here
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self.max_to_keep = max_to_keep
        if save_freq != "epoch":
            _check_count("save_freq", save_freq, "'epoch' or a number of batches of at least one")
            # Set only here: nobody pays for a hook after each batch who does not save there.
            self.on_train_batch_end = self._save_after_batch
        if max_to_keep is not None:
            _check_count("max_to_keep", max_to_keep, "None or a number of at least one")
        self._writer = CheckpointWriter()
        self._saved: list[Path] = []
        self._epoch = 0
        self._batches_since_save = 0
        self._last_batch = -1

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        check_folder_writable("ModelCheckpoint", _fixed_folder(self.filepath))
        self._last_batch = -1

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, {"epoch": epoch + 1}, logs or {}, epochs_done=epoch + 1)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._writer.close()

    def on_exception(self, exception: BaseException) -> None:
        del exception
        self._writer.close()  # finishes what is being saved; Orbax could not while Python exits

    def _save_after_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # Hooks may be called for every n-th batch only; a smaller number is in a new epoch.
        seen = batch + 1 if batch <= self._last_batch else batch - self._last_batch
        self._batches_since_save += seen
        self._last_batch = batch
        if self._batches_since_save >= int(self.save_freq):
            self._batches_since_save = 0
            fields = {"epoch": self._epoch + 1, "batch": batch + 1}
            self._save(self._epoch, fields, logs or {}, epochs_done=self._epoch)

    def _save(self, epoch: int, fields: dict[str, Any], logs: Mapping[str, Any], *, epochs_done: int) -> None:
        folder = self._folder(fields, logs)
        if self.save_best_only and not self._is_best(epoch, logs):
            return
        self._say(epoch, f"saving {'weights' if self.save_weights_only else 'model'} to {folder}")
        self._writer.wait()  # what the last save left behind is then known
        state = self.model.get_state(weights_only=self.save_weights_only)
        step = self.model.step
        metadata = {"weights_only": self.save_weights_only, "epoch": epochs_done, "step": step}
        replaces = self._outdated(folder)
        self._saved.append(self._writer.save(folder, state, step=step, metadata=metadata, replaces=replaces))

    def _is_best(self, epoch: int, logs: Mapping[str, Any]) -> bool:
        current = self._monitor.value(logs, validates=self.validates)
        if current is None:
            return False
        best = "nothing" if self.best is None else f"{self.best:.5f}"
        if not self._monitor.is_better(current, self.best, self.model.metrics):
            self._say(epoch, f"{self._monitor.name} of {current:.5f} did not improve on {best}")
            return False
        self._say(epoch, f"{self._monitor.name} improved from {best} to {current:.5f}")
        self.best = current
        return True

    def _outdated(self, folder: Path) -> list[Path]:
        """Returns the checkpoints that the next one, in `folder`, takes the place of."""
        here = checkpoints_in(folder)
        if self.max_to_keep is None:
            return here
        self._saved = [path for path in self._saved if path.exists()]
        known = [path for path in here if path not in self._saved] + self._saved  # oldest first
        return known[: max(0, len(known) + 1 - self.max_to_keep)]

    def _folder(self, fields: dict[str, Any], logs: Mapping[str, Any]) -> Path:
        try:
            return Path(self.filepath.format_map(_Fields(fields, logs))).absolute()
        except KeyError as error:
            message = unknown_name_message("name in filepath", str(error.args[0]), [*fields, *logs])
            raise ValueError(f"ModelCheckpoint: {message}") from None

    def _say(self, epoch: int, message: str) -> None:
        if self.verbose:
            say(f"Epoch {epoch + 1}: {message}")


class _Fields(dict):
    """What a file name may name; a log is read only if it does."""

    def __init__(self, fields: dict[str, Any], logs: Mapping[str, Any]):
        super().__init__(fields)
        self._logs = logs

    def __missing__(self, name: str) -> float:
        return float(self._logs[name])


def _check_count(name: str, value: Any, expected: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"ModelCheckpoint: {name} is {value!r}, expected {expected}. Pass for example {name}=1."
        )


def _fixed_folder(filepath: str) -> Path:
    """Returns the folder whose name does not depend on any field."""
    return Path(filepath.partition("{")[0] + "_").parent if "{" in filepath else Path(filepath)
