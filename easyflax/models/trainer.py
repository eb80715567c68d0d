"""`Trainer`: compile, fit, evaluate and predict, the half of `Model` that trains."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp

from easyflax import checkpoint
from easyflax.data import as_batches, split_validation, unpack_validation_data
from easyflax.distribution import DataParallel
from easyflax.errors import NotCompiledError
from easyflax.layers.building import build_on, has_unbuilt
from easyflax.metrics import Metric
from easyflax.models import weights
from easyflax.models.arguments import plan_epochs
from easyflax.models.by_structure import ByStructure
from easyflax.models.compiled import Compiled
from easyflax.models.optimizer_view import OptimizerView
from easyflax.train.binding import Arrays, Binding
from easyflax.train.callback_list import CallbackList, Callbacks
from easyflax.train.history import History
from easyflax.train.interrupts import between_steps
from easyflax.train.loop import run_epochs, run_evaluation, run_prediction
from easyflax.train.objective import specs
from easyflax.train.progress import check_verbose
from easyflax.train.session import Session
from easyflax.train.step import predict_step


class Run:
    """What a model keeps about its training: no part of its structure, copies begin without.

    Attributes:
        stop_training: see `Trainer`.
        history: see `Trainer`.
        compiled: what `compile` made, or None.
        predict_steps: jitted, by structure.
        input_specs: shapes and dtypes of the last inputs.
        is_building: whether the model's own `build` is running.
    """

    def __init__(self) -> None:
        self.stop_training = False
        self.history: History | None = None
        self.compiled: Compiled | None = None
        self.predict_steps = ByStructure[Callable[..., Any]]()
        self.input_specs: Any = None
        self.is_building = False


class Trainer:
    """Trains, evaluates and runs `self.trained_module`, in Keras's manner; see `Model`."""

    __slots__ = ()

    trained_module: Any
    _run: Run
    _require_built: Callable[[str], None]

    @property
    def stop_training(self) -> bool:
        """A callback sets it to True to end `fit` after the running batch or epoch."""
        return self._run.stop_training

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self._run.stop_training = value

    @property
    def history(self) -> History | None:
        """What the last `fit` returned."""
        return self._run.history

    @history.setter
    def history(self, value: History | None) -> None:
        self._run.history = value

    # -- training

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        *,
        metrics: Any = None,
        seed: int = 0,
        distribution: DataParallel | None = None,
    ) -> None:
        """Says what to train for; the optimizer starts afresh.

        Args:
            optimizer: a name such as `"adam"`, an `easyflax.optimizers` object, or any optax transformation.
            loss: a name, an `easyflax.losses` object, or a function `(y_true, y_pred)` that returns one value
                a row, or one for the batch. Cross-entropies by name take probabilities if the model ends in
                softmax or sigmoid, else logits.
            metrics: names, `easyflax.metrics` objects and functions.
            seed: fixes the order in which `fit` shuffles.
            distribution: the devices; all of this process by default.

        Raises:
            ValueError: a name is unknown, or there is no loss.
            RuntimeError: a `fit` of this model is running.
        """
        if self._session is not None:
            raise RuntimeError(
                "compile was called within fit of the same model, expected after it. Set what you want to "
                "change during the fit itself, such as model.optimizer.learning_rate."
            )
        self._run.compiled = Compiled(optimizer, loss, metrics, seed, distribution)

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        *,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Collection[int] = 1,
    ) -> History:
        """Trains the model.

        Args:
            x: inputs, `(rows, ...)`: a NumPy or JAX array, or a nesting of dicts, lists and tuples of them.
            y: targets, likewise.
            batch_size: rows of a step, 32 by default; the last batch of an epoch has what is left.
            epochs: the number of the epoch to stop before.
            verbose: 0 silent, 1 a bar, `"rich"` a coloured one, 2 a line an epoch; `"auto"` is 1 where
                somebody watches, on a terminal or in a notebook, else 2.
            callbacks: see `easyflax.callbacks`.
            validation_split: share of the rows, the last ones, kept for validation.
            validation_data: `(x_val, y_val)`; goes before `validation_split`.
            shuffle: reads the rows in another order each epoch, by `compile`'s seed and the epoch.
            initial_epoch: the number of the first epoch.
            steps_per_epoch: batches an epoch; the next epoch goes on in the data where this one ended.
            validation_batch_size: as `batch_size`, for validation.
            validation_freq: validate every so many epochs, or after the epochs of a list, counted from 1.

        Returns:
            the `History`: `history.history` has a list of floats for each log name.

        Raises:
            NotCompiledError: `compile` was not called.
            ValueError: an argument, the shapes or the labels do not fit; said before any training.
            NonFiniteLossError: the loss became NaN or infinite.
        """
        compiled = self._require_compiled("fit")
        self._build_for_data(x)
        binding = Binding(self.trained_module)
        training, held_out = _with_validation(x, y, validation_split, validation_data)
        source, steps = compiled.training_data(binding, *training, batch_size=batch_size, shuffle=shuffle)
        validation_rows = batch_size if validation_batch_size is None else validation_batch_size
        validation = compiled.validation(binding, held_out, validation_rows, validation_freq)
        plan = plan_epochs(source, epochs, initial_epoch, steps_per_epoch, validation)

        self.stop_training, self._run.input_specs = False, specs(source.first_batch().x)
        hooks = self._hooks(callbacks, verbose, plan.epochs, plan.steps_per_epoch, add_history=True)
        hooks.set_validates(validation is not None)
        with hooks.on_screen(), hooks.told_of_exceptions():
            with between_steps() as interrupts, compiled.engine.session_on(binding, steps) as session:
                hooks.call("on_train_begin", {})
                logs = run_epochs(
                    session, plan, hooks, should_stop=lambda: self.stop_training, interrupts=interrupts
                )
            hooks.call("on_train_end", logs)
        assert self.history is not None  # set by the list of callbacks
        return self.history

    # -- evaluation and prediction

    @overload
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        *,
        callbacks: Callbacks = None,
        return_dict: Literal[True],
    ) -> dict[str, float]: ...

    @overload
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        *,
        callbacks: Callbacks = None,
        return_dict: bool = False,
    ) -> Any: ...  # a float or a list, by the number of metrics; for type checkers either

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        *,
        callbacks: Callbacks = None,
        return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:
        """Returns loss and metrics over all rows, in inference mode.

        They are exact for any number of rows, batch size and number of devices.

        Args:
            x: inputs, as for `fit`.
            y: targets, as for `fit`.
            batch_size: rows of a step, 32 by default.
            verbose: as for `fit`.
            callbacks: whose test hooks are called.
            return_dict: returns a dict by name.

        Returns:
            the loss; with metrics, a list of the loss and the metrics in the order of `compile`; or the dict.

        Raises:
            NotCompiledError: `compile` was not called.
            ValueError: an argument, the shapes or the labels do not fit.
        """
        compiled = self._require_compiled("evaluate")
        self._build_for_data(x)
        binding = self._binding()
        source, steps = compiled.evaluation_data(binding, x, y, batch_size)
        layout = compiled.engine.layout
        hooks = self._hooks(callbacks, verbose, 1, source.num_batches)
        with hooks.on_screen(), between_steps() as interrupts:
            logs = run_evaluation(self._arrays(binding, layout), source, steps, hooks, layout, interrupts)
        values = [logs["loss"], *(logs[name] for name in steps.objective.metrics)]
        return logs if return_dict else values if len(values) > 1 else values[0]

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = "auto", *, callbacks: Callbacks = None
    ) -> Any:
        """Returns the outputs for all rows, in order, in inference mode; needs no `compile`.

        Args:
            x: inputs, as for `fit`.
            batch_size: rows of a step, 32 by default.
            verbose: as for `fit`.
            callbacks: whose predict hooks are called.

        Returns:
            NumPy arrays of `(rows, ...)`, in the nesting that the module returns.

        Raises:
            ValueError: an argument or the shapes do not fit.
        """
        self._build_for_data(x)
        binding = self._binding()
        layout = self._run.compiled.engine.layout if self._run.compiled else DataParallel()
        source = as_batches(x, batch_size=batch_size).padded(multiple_of=layout.num_devices)
        self._run.input_specs = specs(source.first_batch().x)
        hooks = self._hooks(callbacks, verbose, 1, source.num_batches)
        with hooks.on_screen(), between_steps() as interrupts:
            arrays = self._arrays(binding, layout)
            return run_prediction(arrays, source, self._predict_step(binding), hooks, layout, interrupts)

    # -- looking at it

    @property
    def metrics(self) -> list[Metric]:
        """The metrics in use; empty before the model has seen data."""
        return list(self._run.compiled.metrics) if self._run.compiled else []

    @property
    def optimizer(self) -> OptimizerView:
        """The optimizer: its learning rate can be read and set, also by a callback."""
        return OptimizerView(self._require_compiled("optimizer").engine, self._binding)

    @property
    def step(self) -> int:
        """Training steps done since `compile`, over all calls of `fit`."""
        return self._run.compiled.engine.steps_done if self._run.compiled else 0

    def optimizer_state_if_any(self) -> Any:
        """Returns the optimizer's state, None before any training."""
        if self._run.compiled is None or not self.step:
            return None
        return self._run.compiled.engine.opt_state(self._binding())

    # -- weights and state, out and in

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Writes the weights into one file, frozen ones too, under the names of the layers.

        Args:
            filepath: of the file. It is in a format of our own, that of safetensors, whatever it is called;
                `"model.weights.h5"` will do, too.
            overwrite: whether a file that is there is replaced.

        Raises:
            FileExistsError: there is one, and it is not to be replaced.
            ValueError: the model is not built.
        """
        self._require_built("save_weights")
        if not overwrite and os.path.exists(filepath):
            raise FileExistsError(
                f"save_weights: {os.fspath(filepath)} exists, expected a new path with overwrite=False. Pass "
                "another one, or overwrite=True."
            )
        checkpoint.save_weights(filepath, weights.by_name(self.trained_module, self._binding()))

    def load_weights(
        self, filepath: str | os.PathLike[str], skip_mismatch: bool = False, *, by_name: bool = False
    ) -> None:
        """Reads weights that `save_weights` of this model wrote, or of another one.

        Args:
            filepath: of the file.
            skip_mismatch: leaves weights as they are that the file does not have in their shape, and says so
                in a warning, instead of raising.
            by_name: gives each layer the weights of the one of its name, wherever that was in the other
                model; layers without one stay as they are. By default the whole way to the layer counts.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: the file is damaged, or no other than `save_weights` wrote it.
            ValueError: names or shapes differ, or the model is not built.
        """
        self._require_built("load_weights")
        arrays = checkpoint.load_weights(filepath)
        weights.set_from_file(
            self.trained_module, self._binding(), arrays, skip_mismatch=skip_mismatch, by_name=by_name
        )

    def get_state(self, *, weights_only: bool = False) -> dict[str, Any]:
        """Returns everything that training changes, as nested dicts of arrays that it never deletes.

        Args:
            weights_only: leaves out random streams, optimizer and step count.

        Returns:
            `{"params": {path: array}, "other": {path: array}}`, frozen parameters among the params, and
            `"opt_state"` and `"counters": {"step": int32}`.

        Raises:
            NotCompiledError: without `weights_only`, `compile` was not called.
        """
        binding = self._binding()
        variables = weights.by_path(binding, with_rngs=not weights_only)
        params = binding.params.keys() | binding.frozen.keys()
        state: dict[str, Any] = {
            "params": {name: value for name, value in variables.items() if name in params},
            "other": {name: value for name, value in variables.items() if name not in params},
        }
        if weights_only:
            return state
        engine = self._require_compiled("get_state").engine
        state["opt_state"] = engine.layout.copy_home(engine.opt_state(binding))
        state["counters"] = {"step": jnp.asarray(engine.steps_done, jnp.int32)}
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Sets what `get_state` returned, with or without `weights_only`; also within a fit.

        Raises:
            ValueError: it is of another model.
        """
        binding = self._binding()
        weights.set_all(binding, {**state["params"], **state["other"]}, "set_state")
        if "opt_state" in state:
            engine = self._require_compiled("set_state").engine
            engine.set_opt_state(state["opt_state"], binding)
            engine.steps_done = int(state["counters"]["step"])

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Sets the state from the newest whole checkpoint in `path`, where `ModelCheckpoint` wrote it.

        Raises:
            CheckpointError: there is none, or it is of another model.
        """
        saved = checkpoint.newest(path)
        self.set_state(saved.restore(self.get_state(weights_only=saved.metadata["weights_only"])))

    # -- what the methods above share

    def _require_compiled(self, call: str) -> Compiled:
        if self._run.compiled is None:
            raise NotCompiledError(
                f"{call}: the model is not compiled, expected a loss and an optimizer. Call first, for "
                f"example, model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', "
                f"metrics=['accuracy'])."
            )
        return self._run.compiled

    def _build_for_data(self, x: Any) -> None:
        if has_unbuilt(self.trained_module):
            build_on(self.trained_module, as_batches(x).first_batch().x)

    @property
    def _session(self) -> Session | None:
        return self._run.compiled.engine.session if self._run.compiled else None

    def _binding(self) -> Binding:
        return self._session.binding if self._session else Binding(self.trained_module)

    def _arrays(self, binding: Binding, layout: DataParallel) -> Callable[[], tuple[Arrays, Arrays]]:
        if self._session:
            return self._session.arrays
        placed = layout.put_state(binding.arrays())
        return lambda: placed

    def _predict_step(self, binding: Binding) -> Callable[..., Any]:
        return self._run.predict_steps.get(
            binding.graphdef, lambda: jax.jit(partial(predict_step, binding.apply))
        )

    def _hooks(
        self, callbacks: Callbacks, verbose: Any, epochs: int, steps: int | None, *, add_history: bool = False
    ) -> CallbackList:
        show = check_verbose(verbose) != 0
        return CallbackList(callbacks, add_history, show, self, verbose=verbose, epochs=epochs, steps=steps)


def _with_validation(
    x: Any, y: Any, fraction: float, data: Any
) -> tuple[tuple[Any, Any], tuple[Any, Any] | None]:
    """Returns the pair to train on, and the pair to validate on or None."""
    if data is not None:
        return (x, y), unpack_validation_data(data)[:2]
    if fraction:
        training, held_out = split_validation(x, y, None, fraction)
        return training[:2], held_out[:2]
    return (x, y), None
