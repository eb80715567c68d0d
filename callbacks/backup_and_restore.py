"""Goes on with a training that was interrupted, when the same program is started again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyflax.callbacks.paths import check_folder_writable
from easyflax.callbacks.save_points import SavePoints
from easyflax.checkpoint import CheckpointWriter, checkpoints_in, remove_checkpoint
from easyflax.train.callback import Callback

__all__ = ["BackupAndRestore"]


class BackupAndRestore(Callback):
    """Saves the run while it trains, and takes it up again in the `fit` that follows an interruption.

    The second `fit`, in the same program or in a new one, ends with the weights, the History and the
    decisions of callbacks that the first would have ended with, to the bit. That holds within an epoch, too:
    the batches that were done are not done again. It is for one run: give another one another folder.

    Data that are read one after the other are read again from their beginning, up to the place of the save;
    they must then give the same batches.

    Args:
        backup_dir: the folder.
        save_freq: `"epoch"`, or a number of batches, which are counted across epochs.
        double_checkpoint: keeps the last two saves, where one is enough unless a disk loses files: a save is
            deleted only when the next one is complete. One that cannot be read is passed over, with a
            warning.
        delete_checkpoint: deletes the saves at the end of a training that was not interrupted.

    Raises:
        ValueError: an argument has no meaning.
        OSError: in `fit`, the folder cannot be written, said before training; or the last save failed.
        CheckpointError: in `fit`, the folder holds the run of another model.
    """

    called_last = True  # so that the state of all others is restored after their `on_train_begin`

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        if not os.fspath(backup_dir):
            raise ValueError(
                "BackupAndRestore: backup_dir is empty, expected a folder. Pass for example 'backup'."
            )
        self._points = SavePoints(type(self).__name__, save_freq)
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._folder = Path(self.backup_dir).absolute()
        self._writer = CheckpointWriter()
        if self._points.are_batches:
            self.on_train_batch_end = self._save_after_batch

    def next_batch_needed(self, batch: int) -> int | None:
        """Returns the batch after which something is saved next."""
        return self._points.next_due(batch)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        check_folder_writable(type(self).__name__, self._folder)
        self._points.begin()
        if checkpoints_in(self._folder):
            self.model.resume(self._folder)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        if not self._points.are_batches:
            self._save()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._writer.close()
        if self.delete_checkpoint:
            for path in checkpoints_in(self._folder):
                remove_checkpoint(path)

    def on_exception(self, exception: BaseException) -> None:
        del exception
        self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns what was counted."""
        return self._points.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on counting where `state` was taken."""
        self._points.load_state_dict(state)

    def _save_after_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        if self._points.is_due(batch):
            self._save()

    def _save(self) -> None:
        self._writer.wait()
        before = checkpoints_in(self._folder)
        state, run = self.model.state_to_save()
        self._writer.save(
            self._folder,
            state,
            step=self.model.step,
            metadata={"weights_only": False},
            run=run,
            replaces=before[:-1] if self.double_checkpoint else before,
        )
