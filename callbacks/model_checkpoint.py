"""Saves the model while it trains."""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from easyflax.callbacks.message import say
from easyflax.callbacks.monitor import Monitor
from easyflax.callbacks.paths import check_file_writable, check_folder_writable
from easyflax.callbacks.save_points import SavePoints, check_count
from easyflax.checkpoint import CheckpointWriter, checkpoints_in, is_kept, next_path
from easyflax.errors import unknown_name_message
from easyflax.train.callback import Callback

__all__ = ["ModelCheckpoint"]

_FILE_ENDINGS = (".weights.h5", ".h5", ".safetensors")


class ModelCheckpoint(Callback):
    """Saves the model after epochs or batches; arguments, decisions and names are Keras's.

    With `save_weights_only=True` and a `filepath` that ends in `.weights.h5`, `.h5` or `.safetensors`, it
    writes the file that `model.save_weights` does; `model.load_weights` reads it.

    Else it writes a folder through Orbax, in the background, whatever its name ends in (also in `.keras`). It
    holds the whole state of training, from which `fit(resume_from=filepath)` goes on as if nothing had
    happened: parameters, optimizer, random streams, metrics so far, History, and what other callbacks keep.
    It does not hold the layers: make the model by the same code, then call `model.load_weights(filepath)`, or
    `model.load_checkpoint(filepath)` for the optimizer, too. An older checkpoint is deleted only when its
    successor is complete, and a state with NaN in it is never kept. So that nothing is missing, these hooks
    are called after those of all other callbacks.

    Where a callback averages weights, the averages are saved as the weights, and a resumed run goes on with
    both.

    Args:
        filepath: the file or folder. It may name `{epoch}` (counted from 1), `{batch}` and any log, as in
            `"runs/{epoch:02d}-{val_loss:.2f}"`; each name then is one of its own, else one is written again
            and again.
        monitor: the name in the logs that `save_best_only` goes by.
        verbose: 1 says what is saved.
        save_best_only: save only when the monitor is better than ever.
        save_weights_only: save parameters and batch statistics only.
        mode: `"min"`, `"max"`, or `"auto"`, which knows the direction of the loss and of the model's metrics.
        save_freq: `"epoch"`, or a number of batches, which are counted across epochs. The logs are then those
            of the epoch so far, and reading them (for a monitor or a name) waits for the device.
        initial_value_threshold: a value that the first one saved must beat.
        keep_last: how many to keep, the last ones, whatever their names; None keeps the last one under every
            name.
        keep_every: every so many saves, one is kept for good, besides.

    Raises:
        ValueError: an argument has no meaning; in `fit`, the monitor or a name in `filepath` is not in the
            logs.
        OSError: in `fit`, the file or folder cannot be written, said before training; or the last save
            failed, for example because the disk is full.
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
        *,
        keep_last: int | None = None,
        keep_every: int | None = None,
    ):
        super().__init__()
        owner = type(self).__name__
        self._monitor = Monitor(owner, monitor, mode)
        self._points = SavePoints(owner, save_freq)
        for name, value in (("keep_last", keep_last), ("keep_every", keep_every)):
            if value is not None:
                check_count(owner, name, value, "None or a number of at least one")
        self.filepath = os.fspath(filepath)
        list(string.Formatter().parse(self.filepath))  # an unfinished {field} is a ValueError here
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self.keep_last = keep_last
        self.keep_every = keep_every
        self._writes_files = save_weights_only and self.filepath.endswith(_FILE_ENDINGS)
        self.called_last = not self._writes_files
        if self._points.are_batches:
            # Set only here: nobody pays for a hook after each batch who does not save there.
            self.on_train_batch_end = self._save_after_batch
        self._writer = CheckpointWriter()
        self._saved: list[Path] = []  # the last ones, oldest first
        self._kept_files: list[Path] = []
        self._saves = 0
        self._epoch = 0

    @property
    def monitor(self) -> str:
        """The name in the logs."""
        return self._monitor.name

    def next_batch_needed(self, batch: int) -> int | None:
        """Returns the batch after which something is saved next."""
        return self._points.next_due(batch)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        owner = type(self).__name__
        if _has_fields(self.filepath):
            check_folder_writable(owner, _fixed_folder(self.filepath))
        else:
            check = check_file_writable if self._writes_files else check_folder_writable
            check(owner, self._path({}, {}))
        self._points.begin()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._points.are_batches:
            self._save_if_better(epoch, {"epoch": epoch + 1}, logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._writer.close()

    def on_exception(self, exception: BaseException) -> None:
        del exception
        self._writer.close()  # finishes what is being saved; Orbax could not while Python exits

    def state_dict(self) -> dict[str, Any]:
        """Returns the best value so far, what was counted, and what was saved."""
        return {
            "best": self.best,
            "points": self._points.state_dict(),
            "saves": self._saves,
            "saved": [str(path) for path in self._saved],
            "kept_files": [str(path) for path in self._kept_files],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken."""
        self.best, self._saves = state["best"], state["saves"]
        self._points.load_state_dict(state["points"])
        self._saved = [Path(path) for path in state["saved"]]
        self._kept_files = [Path(path) for path in state["kept_files"]]

    # -- when

    def _save_after_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._points.is_due(batch):
            self._save_if_better(self._epoch, {"epoch": self._epoch + 1, "batch": batch + 1}, logs or {})

    def _save_if_better(self, epoch: int, fields: dict[str, Any], logs: Mapping[str, Any]) -> None:
        path = self._path(fields, logs)
        if self.save_best_only and not self._is_best(epoch, logs):
            return
        self._say(epoch, f"saving {'weights' if self.save_weights_only else 'model'} to {path}")
        self._saves += 1
        save = self._save_file if self._writes_files else self._save_folder
        save(path, self.keep_every is not None and self._saves % self.keep_every == 0)

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

    # -- how

    def _save_folder(self, folder: Path, to_keep: bool) -> None:
        self._writer.wait()  # what the last save left behind is then known
        path = next_path(folder, self.model.step)
        here = checkpoints_in(folder)
        if self.keep_last is None:
            outdated = here
        else:
            self._saved = [one for one in self._saved if one.exists()]
            self._saved = [one for one in here if one not in self._saved] + self._saved + [path]
            outdated = self._outdated()
        # Asked for only now: it holds what this callback keeps.
        state, run = self.model.state_to_save(weights_only=self.save_weights_only)
        self._writer.save(
            folder,
            state,
            step=self.model.step,
            metadata={"weights_only": self.save_weights_only, "kept": to_keep},
            run=run,
            replaces=[one for one in outdated if not is_kept(one)],
        )

    def _save_file(self, path: Path, to_keep: bool) -> None:
        if jax.process_index() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.model.averages_in_place():
                self.model.save_weights(path)
        self._kept_files += [path] if to_keep else []
        self._saved = [one for one in self._saved if one != path] + [path]
        for one in self._outdated() if self.keep_last is not None else []:
            if one not in self._kept_files and jax.process_index() == 0:
                one.unlink(missing_ok=True)

    def _outdated(self) -> list[Path]:
        """Returns those that are no longer among the last, oldest first."""
        more = max(0, len(self._saved) - (self.keep_last or 0))
        outdated, self._saved = self._saved[:more], self._saved[more:]
        return outdated

    def _path(self, fields: dict[str, Any], logs: Mapping[str, Any]) -> Path:
        try:
            return Path(self.filepath.format_map(_Fields(fields, logs))).absolute()
        except KeyError as error:
            message = unknown_name_message("name in filepath", str(error.args[0]), [*fields, *logs])
            raise ValueError(f"{type(self).__name__}: {message}") from None

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


def _has_fields(filepath: str) -> bool:
    return any(field is not None for _, field, _, _ in string.Formatter().parse(filepath))


def _fixed_folder(filepath: str) -> Path:
    """Returns the folder above the first name that a field decides."""
    return Path(filepath.partition("{")[0] + "_").parent
