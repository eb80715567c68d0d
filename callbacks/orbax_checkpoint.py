"""Saves the model in numbered folders, through Orbax."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyflax.callbacks.model_checkpoint import ModelCheckpoint
from easyflax.callbacks.save_points import check_count

__all__ = ["OrbaxCheckpoint"]


class OrbaxCheckpoint(ModelCheckpoint):
    """Saves checkpoints into one folder after epochs or batches, with the arguments of Keras's callback.

    Each is a folder in `directory`, whose number counts saves: `000002-step500`. The newest one is what
    `fit(resume_from=directory)`, `model.load_checkpoint(directory)` and `model.load_weights(directory)` take.
    See `ModelCheckpoint` for what it holds.

    Args:
        directory: the folder of the checkpoints.
        monitor: see `ModelCheckpoint`.
        verbose: see there.
        save_best_only: see there.
        mode: see there.
        save_freq: see there.
        initial_value_threshold: see there.
        max_to_keep: how many to keep, the last ones; None keeps all.
        save_on_background: whether training goes on while files are written.
        save_weights_only: see `ModelCheckpoint`.

    Raises:
        ValueError: an argument has no meaning; in `fit`, the monitor is not in the logs.
        OSError: in `fit`, the folder cannot be written, said before training; or a save failed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        max_to_keep: int | None = 1,
        save_on_background: bool = True,
        save_weights_only: bool = False,
    ):
        if max_to_keep is not None:
            check_count("OrbaxCheckpoint", "max_to_keep", max_to_keep, "None or a number of at least one")
        self.directory = os.fspath(directory)
        super().__init__(
            os.path.join(self.directory.replace("{", "{{").replace("}", "}}"), ""),  # a folder by its ending
            monitor=monitor,
            verbose=verbose,
            save_best_only=save_best_only,
            save_weights_only=save_weights_only,
            mode=mode,
            save_freq=save_freq,
            initial_value_threshold=initial_value_threshold,
            keep_last=sys.maxsize if max_to_keep is None else max_to_keep,
        )
        self.max_to_keep = max_to_keep
        self.save_on_background = save_on_background

    def wait_until_finished(self) -> None:
        """Returns when all that was saved is complete.

        Raises:
            OSError: the last save failed.
        """
        self._writer.wait()

    def _save_if_better(self, epoch: int, fields: dict[str, Any], logs: Mapping[str, Any]) -> None:
        super()._save_if_better(epoch, fields, logs)
        if not self.save_on_background:
            self._writer.wait()

    def _path(self, fields: dict[str, Any], logs: Mapping[str, Any]) -> Path:
        del fields, logs
        return Path(self.directory).absolute()
