"""Logs runs with MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import jax

from easyflax.callbacks.tracked import described, scalars_of
from easyflax.callbacks.update_freq import BatchCounter, check_update_freq
from easyflax.train.callback import Callback

__all__ = ["MLflowLogger"]


class MLflowLogger(Callback):
    """Logs the logs of epochs as metrics of an MLflow run, with the epoch as the step.

    The run is that of `run_id`; or the active one, where `fit` is called within `mlflow.start_run()`; or a
    new one, which ends with `fit`: as finished, as killed by Ctrl-C, or as failed. A resumed `fit` goes on
    with its run. It needs the package `mlflow`, and writes on process 0.

    Args:
        experiment_name: of a new run; made if there is none of that name.
        run_name: of a new run.
        tracking_uri: where runs are kept, such as `"sqlite:///runs.db"`, or the address of a server; by
            default what MLflow is set to.
        tags: of a new run.
        params: logged as parameters of the run, besides `epochs`, `steps`, `optimizer`, `learning_rate` and
            `num_params`.
        run_id: of a run to go on with.
        update_freq: `"epoch"`; `"batch"`, or a number of batches, for metrics `batch_<name>` after every so
            many as well, with the number of training steps as the step. Reading them waits for the device.

    Raises:
        ImportError: `mlflow` is not installed.
        ValueError: an argument has no meaning.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | os.PathLike[str] | None = None,
        tags: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        update_freq: str | int = "epoch",
    ):
        super().__init__()
        self._client = _client(tracking_uri)
        self.experiment_name = experiment_name
        self.run_name = run_name
        self.tracking_uri = tracking_uri
        self.tags = dict(tags or {})
        self.run_params = dict(params or {})
        self.run_id = run_id
        self.update_freq = update_freq
        self._owns_run = run_id is None
        self._is_described = False
        self._batches = BatchCounter(check_update_freq(type(self).__name__, update_freq))
        if self._batches.every:
            self.on_train_batch_end = self._log_batch

    def next_batch_needed(self, batch: int) -> int | None:
        """Returns the batch after which something is logged next."""
        return self._batches.next_due(batch)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._batches.start()
        self._is_described = False
        if self._owns_run:
            self.run_id = None
        if jax.process_index() == 0:
            self._experiment_id()  # which asks the store, and so says now that it cannot be reached

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        self._batches.start_epoch()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._log(scalars_of(logs), epoch)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._end("FINISHED")

    def on_exception(self, exception: BaseException) -> None:
        self._end("KILLED" if isinstance(exception, KeyboardInterrupt) else "FAILED")

    def state_dict(self) -> dict[str, Any]:
        """Returns the id of the run, and the batches so far."""
        return {"run_id": self.run_id, **self._batches.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the run of `state`."""
        self._batches.restore(state)
        if self._owns_run and state["run_id"] is not None:
            self.run_id, self._is_described = str(state["run_id"]), True
            if jax.process_index() == 0:
                self._client.update_run(self.run_id, status="RUNNING")

    def _log_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._batches.is_due(batch):
            self._log({f"batch_{name}": value for name, value in scalars_of(logs).items()}, self.model.step)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        if jax.process_index() != 0:
            return
        metric = import_module("mlflow.entities").Metric
        run_id, now = self._running(), int(time.time() * 1000)
        self._client.log_batch(run_id, [metric(name, value, now, step) for name, value in values.items()])

    def _running(self) -> str:
        """Returns the id of the run, made and described if need be."""
        if self.run_id is None:
            self.run_id = self._active_run() or self._new_run()
        if not self._is_described:
            self._describe(self.run_id)
            self._is_described = True
        return self.run_id

    def _active_run(self) -> str | None:
        run = import_module("mlflow").active_run()
        if run is None or self.experiment_name or self.run_name or self.tracking_uri:
            return None
        self._owns_run = False
        return run.info.run_id

    def _new_run(self) -> str:
        run = self._client.create_run(self._experiment_id(), run_name=self.run_name, tags=self.tags)
        return run.info.run_id

    def _experiment_id(self) -> str:
        name = self.experiment_name or "Default"
        found = self._client.get_experiment_by_name(name)
        return self._client.create_experiment(name) if found is None else found.experiment_id

    def _describe(self, run_id: str) -> None:
        param = import_module("mlflow.entities").Param
        values = {**described(self.model, self.params), **self.run_params}
        self._client.log_batch(run_id, params=[param(name, str(value)) for name, value in values.items()])

    def _end(self, status: str) -> None:
        if self._owns_run and self.run_id is not None and jax.process_index() == 0:
            self._client.set_terminated(self.run_id, status)


def _client(tracking_uri: str | os.PathLike[str] | None) -> Any:
    try:
        mlflow = import_module("mlflow")
    except ImportError as error:
        raise ImportError(
            "MLflowLogger needs the package mlflow, which is not installed. Install it by `pip install "
            "mlflow`."
        ) from error
    return mlflow.MlflowClient(None if tracking_uri is None else os.fspath(tracking_uri))
