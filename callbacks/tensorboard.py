"""Writes logs, weights, gradients and profiles for TensorBoard, without TensorFlow."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Mapping
from typing import Any

import jax

from easyflax.callbacks.embedding_projector import write_projector
from easyflax.callbacks.event_writer import EventWriter, require_tensorboard
from easyflax.callbacks.keep_gradients import KeepGradients
from easyflax.callbacks.model_views import graph_nodes, weight_images, weights_by_tag
from easyflax.callbacks.paths import check_folder_writable
from easyflax.callbacks.step_trace import StepTrace, check_step_range
from easyflax.callbacks.update_freq import BatchCounter, check_update_freq
from easyflax.train.callback import Callback
from easyflax.train.plan import Plan

__all__ = ["TensorBoard"]

_GRADIENTS = "tensorboard_gradients"


class TensorBoard(Callback):
    """Writes what `tensorboard --logdir` shows; arguments, folders, tags and steps are Keras's.

    Training goes to the folder `train` in `log_dir`, validation to `validation`. After each epoch there are
    `epoch_<name>` for its logs and the learning rate, with the epoch as the step; after each validation
    `evaluation_<name>_vs_iterations`. It needs the package `tensorboard`, and never TensorFlow.

    Args:
        log_dir: the folder.
        histogram_freq: after how many epochs histograms of the weights are written, as
            `<layer>/<weight>/histogram`; 0 for never. They show what is finite.
        write_graph: writes the layers of the model, and what goes where if it was stated with them.
        write_images: writes the weights as pictures as well, from their smallest value in black to their
            largest in white, when their histograms are written.
        write_steps_per_second: writes `epoch_steps_per_second`, and with batches `batch_steps_per_second`.
        update_freq: `"epoch"`; `"batch"`, or a number of batches, for `batch_<name>` after every so many as
            well: the logs of the epoch so far, with the number of the batch in the run, from 1, as the step.
            Reading them waits for the device.
        profile_batch: the batch to profile, counted from 1, or the pair of the first and the last one; 0 for
            none. The plugin `tensorboard-plugin-profile` shows it.
        embeddings_freq: after how many epochs the tables of `Embedding` layers are written for the projector;
            0 for never.
        embeddings_metadata: a file that names the rows of the tables, or a dict of such files by the names of
            layers; relative to `log_dir`.
        write_gradients: writes histograms of the gradients of the newest update, as
            `<layer>/<weight>/gradient/histogram`, along with those of the weights.

    Raises:
        ImportError: `tensorboard` is not installed.
        ValueError: an argument has no meaning; in `fit`, `embeddings_metadata` names a layer that is none.
        OSError: in `fit`, the folder cannot be written; said before training.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int | str | tuple[int, int] = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: str | Mapping[str, str] | None = None,
        *,
        write_gradients: bool = False,
    ):
        super().__init__()
        require_tensorboard("TensorBoard")
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = _check_freq("histogram_freq", histogram_freq)
        self.write_graph = write_graph
        self.write_images = write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = update_freq
        self.embeddings_freq = _check_freq("embeddings_freq", embeddings_freq)
        self.embeddings_metadata = embeddings_metadata
        self.write_gradients = write_gradients
        self._profiled = check_step_range("TensorBoard", "profile_batch", profile_batch)
        every = check_update_freq("TensorBoard", update_freq)
        self._check_together()
        self._batches = BatchCounter(every)
        self._writers: dict[str, EventWriter] = {}
        self._trace: StepTrace | None = None
        if every or self._profiled:
            self.on_train_batch_end = self._after_batch
        if self._profiled:
            self.on_train_batch_begin = self._before_batch

    def configure(self, plan: Plan) -> Plan:
        """Has the step keep its gradients, if they are to be written."""
        return plan.adding(KeepGradients(_GRADIENTS)) if self.write_gradients else plan

    def next_batch_needed(self, batch: int) -> int | None:
        """Returns the batch after which something is logged next, or a profile begins or ends."""
        due = [self._batches.next_due(batch)]
        if self._trace is not None:
            due.append(self._batches.at_step(batch, self._trace.next_step_needed))
        return min((one for one in due if one is not None), default=None)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._batches.start()
        self._last_write = 0, time.perf_counter()
        if jax.process_index() != 0:
            return
        check_folder_writable("TensorBoard", self.log_dir)
        if self._profiled:
            self._trace = StepTrace("TensorBoard", self._folder("train"), *self._profiled)
        if self.write_graph:
            self._writer("train").graph(graph_nodes(self.model))
        if self.embeddings_freq:
            self._write_embeddings()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._close()

    def on_exception(self, exception: BaseException) -> None:
        del exception
        self._close()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        self._batches.start_epoch()
        self._epoch_began = self.model.step, time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if jax.process_index() != 0:
            return
        of_training, of_validation = self._epoch_logs(logs or {})
        self._writer("train").scalars(_tagged("epoch_{}", of_training), epoch)
        if of_validation:
            self._writer("validation").scalars(_tagged("epoch_{}", of_validation), epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            self._write_embeddings()
        for writer in self._writers.values():
            writer.flush()

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if jax.process_index() != 0:
            return
        values = _tagged("evaluation_{}_vs_iterations", logs or {})
        writer = self._writer("validation")
        writer.scalars(values, int(self.model.optimizer.iterations))
        writer.flush()

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of batches so far: a resumed run counts on."""
        return self._batches.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counts on from the batches of `state`."""
        self._batches.restore(state)
        self._last_write = self._batches.total, time.perf_counter()

    def _before_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        del batch, logs
        if self._trace is not None:
            self._trace.before(self._batches.total + 1)

    def _after_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        is_due = self._batches.is_due(batch)
        if self._trace is not None:
            self._trace.after(self._batches.total, logs)
        if not is_due or jax.process_index() != 0:
            return
        values = _tagged("batch_{}", logs or {})
        if self.write_steps_per_second:
            now = self._batches.total, time.perf_counter()
            values["batch_steps_per_second"] = _pace(self._last_write, now)
            self._last_write = now
        self._writer("train").scalars(values, self._batches.total)

    def _epoch_logs(self, logs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns what is logged of training, and what is logged of validation without `val_`."""
        of_training = {name: value for name, value in logs.items() if not name.startswith("val_")}
        of_validation = {name[4:]: value for name, value in logs.items() if name.startswith("val_")}
        # An optax transformation may have none in its state, or one for each of several parts.
        with contextlib.suppress(TypeError, ValueError):
            of_training["learning_rate"] = float(self.model.optimizer.learning_rate)
        if self.write_steps_per_second:
            now = self.model.step, time.perf_counter()
            of_training["steps_per_second"] = _pace(self._epoch_began, now)
        return of_training, of_validation

    def _write_weights(self, epoch: int) -> None:
        writer = self._writer("train")
        for tag, array in weights_by_tag(self.model).items():
            writer.histogram(f"{tag}/histogram", array, epoch)
            pictures = weight_images(array) if self.write_images else None
            if pictures is not None:
                writer.images(f"{tag}/image", pictures, epoch)
        if self.write_gradients:
            grads = jax.device_get(self.model.addition_state(_GRADIENTS))
            for tag, array in weights_by_tag(self.model, grads).items():
                writer.histogram(f"{tag}/gradient/histogram", array, epoch)

    def _write_embeddings(self) -> None:
        write_projector(self.model, self._folder("train"), self.log_dir, self.embeddings_metadata)

    def _folder(self, run: str) -> str:
        return os.path.join(self.log_dir, run)

    def _writer(self, run: str) -> EventWriter:
        if run not in self._writers:
            self._writers[run] = EventWriter(self._folder(run))
        return self._writers[run]

    def _close(self) -> None:
        if self._trace is not None:
            self._trace.stop()
            self._trace = None
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _check_together(self) -> None:
        """Warns of arguments that Keras leaves aside without others.

        Raises:
            ValueError: gradients are to be written, but never.
        """
        if self.write_gradients and not self.histogram_freq:
            raise ValueError(
                "TensorBoard: write_gradients is True and histogram_freq 0, expected epochs after which "
                "histograms are written. Pass histogram_freq=1."
            )
        needs = {"write_images": "histogram_freq", "embeddings_metadata": "embeddings_freq"}
        for argument, freq in needs.items():
            if getattr(self, argument) and not getattr(self, freq):
                warnings.warn(
                    f"TensorBoard: {argument} has no effect while {freq} is 0. Pass {freq}=1 too.",
                    stacklevel=3,
                )


def _check_freq(name: str, freq: Any) -> int:
    if isinstance(freq, bool) or not isinstance(freq, int) or freq < 0:
        raise ValueError(
            f"TensorBoard: {name} is {freq!r}, expected a number of epochs, or 0 for never. Pass 1 for every "
            "epoch."
        )
    return freq


def _tagged(tag: str, logs: Mapping[str, Any]) -> dict[str, Any]:
    return {tag.format(name): value for name, value in logs.items()}


def _pace(before: tuple[int, float], now: tuple[int, float]) -> float:
    """Returns steps a second between two moments, each a number of steps and a time."""
    return (now[0] - before[0]) / max(now[1] - before[1], 1e-9)
