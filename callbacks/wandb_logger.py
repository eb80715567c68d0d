"""Logs runs with Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import jax

from easyflax.callbacks.paths import check_folder_writable
from easyflax.callbacks.tracked import described, scalars_of
from easyflax.callbacks.update_freq import BatchCounter, check_update_freq
from easyflax.train.callback import Callback

__all__ = ["WandbLogger"]


class WandbLogger(Callback):
    """Logs the logs of epochs to a run of Weights & Biases, as `epoch/<name>` over `epoch/epoch`.

    The run is the present one, where `wandb.init` was called before; else a new one, which ends with `fit`. A
    resumed `fit` goes on with its run. It needs the package `wandb`, and writes on process 0.

    Args:
        project: of a new run.
        name: of a new run.
        mode: `"online"`, `"offline"`, which keeps all in a folder for `wandb sync`, or `"disabled"`; by
            default what Weights & Biases is set to.
        dir: the folder in which a new run has its files.
        config: logged as the configuration of the run, besides `epochs`, `steps`, `optimizer`,
            `learning_rate` and `num_params`.
        update_freq: `"epoch"`; `"batch"`, or a number of batches, for `batch/<name>` after every so many as
            well, over `batch/batch_step`, the number of training steps. Reading them waits for the device.
        **options: further arguments of `wandb.init`, such as `entity` and `tags`.

    Raises:
        ImportError: `wandb` is not installed.
        ValueError: an argument has no meaning.
        OSError: in `fit`, the folder cannot be written; said before training.
    """

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        *,
        mode: str | None = None,
        dir: str | os.PathLike[str] | None = None,
        config: Mapping[str, Any] | None = None,
        update_freq: str | int = "epoch",
        **options: Any,
    ):
        super().__init__()
        self._wandb = _wandb()
        if mode not in (None, "online", "offline", "disabled"):
            raise ValueError(
                f"WandbLogger: mode is {mode!r}, expected 'online', 'offline' or 'disabled'. Pass one of "
                "these."
            )
        self.dir = None if dir is None else os.fspath(dir)
        self.config = dict(config or {})
        self.update_freq = update_freq
        self._options = {"project": project, "name": name, "mode": mode, "dir": self.dir, **options}
        self._run: Any = None
        self._owns_run = False
        self._id: str | None = None
        self._batches = BatchCounter(check_update_freq(type(self).__name__, update_freq))
        if self._batches.every:
            self.on_train_batch_end = self._log_batch

    def next_batch_needed(self, batch: int) -> int | None:
        """Returns the batch after which something is logged next."""
        return self._batches.next_due(batch)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._run, self._id = None, None
        self._batches.start()
        if self.dir is not None and jax.process_index() == 0:
            check_folder_writable(type(self).__name__, self.dir)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        self._batches.start_epoch()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._log("epoch", {"epoch": epoch, **scalars_of(logs)})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._finish(0)

    def on_exception(self, exception: BaseException) -> None:
        del exception
        self._finish(1)

    def state_dict(self) -> dict[str, Any]:
        """Returns the id of the run, and the batches so far."""
        return {"id": self._id, **self._batches.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the run of `state`."""
        self._batches.restore(state)
        self._id = None if state["id"] is None else str(state["id"])

    def _log_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._batches.is_due(batch):
            self._log("batch", {"batch_step": self.model.step, **scalars_of(logs)})

    def _log(self, group: str, values: Mapping[str, float]) -> None:
        if jax.process_index() == 0:
            self._running().log({f"{group}/{name}": value for name, value in values.items()})

    def _running(self) -> Any:
        """Returns the run, made if there is none."""
        if self._run is None:
            present = self._wandb.run
            self._owns_run = present is None
            self._run = self._new_run() if present is None else present
            self._id = self._run.id
            config = {**described(self.model, self.params), **self.config}
            self._run.config.update(config, allow_val_change=True)
            for group, step in (("epoch", "epoch/epoch"), ("batch", "batch/batch_step")):
                self._run.define_metric(step)
                self._run.define_metric(f"{group}/*", step_metric=step)
        return self._run

    def _new_run(self) -> Any:
        going_on = {} if self._id is None else {"id": self._id, "resume": "allow"}
        return self._wandb.init(**{**self._options, **going_on})

    def _finish(self, exit_code: int) -> None:
        if self._run is not None and self._owns_run:
            self._run.finish(exit_code=exit_code)
        self._run = None


def _wandb() -> Any:
    try:
        return import_module("wandb")
    except ImportError as error:
        raise ImportError(
            "WandbLogger needs the package wandb, which is not installed. Install it by `pip install wandb`."
        ) from error
