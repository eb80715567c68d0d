"""`Trainer`: compile, fit, evaluate and predict, the half of `Model` that trains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, overload

import jax
import numpy as np

import easyflax.optimizers as optimizers
from easyflax.data import Source, as_source, split_validation, unpack_validation_data
from easyflax.distribution import DataParallel
from easyflax.errors import NotCompiledError
from easyflax.layers.building import build_on, has_unbuilt
from easyflax.layers.dtypes import DTypePolicy
from easyflax.layers.precision import store_params
from easyflax.layers.symbolic import Symbolic
from easyflax.models.arguments import check_count, check_count_or_none, check_precision, is_eager
from easyflax.models.by_structure import ByStructure
from easyflax.models.chain import Chain
from easyflax.models.compiled import Compiled, Trained
from easyflax.models.optimizer_home import OptimizerHome
from easyflax.models.state_methods import StateMethods
from easyflax.models.step_methods import StepMethods
from easyflax.optimizers import Optimizer
from easyflax.optimizers.options import with_options, with_scaled_loss
from easyflax.train.binding import Binding
from easyflax.train.callback_list import CallbackList, Callbacks
from easyflax.train.compiled_steps import CompiledSteps, in_precision
from easyflax.train.history import History
from easyflax.train.interrupts import between_steps
from easyflax.train.logs import BatchLogs, in_keras_order
from easyflax.train.loop import Plan, Validation, run_epochs, run_evaluation, run_prediction
from easyflax.train.own_steps import current_scope
from easyflax.train.progress import check_verbose
from easyflax.train.session import Live, Resting, Session
from easyflax.train.specs import specs
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


class Trainer(StepMethods, StateMethods):
    """Trains, evaluates and runs `self.trained_module`, in Keras's manner; see `Model`."""

    __slots__ = ()

    trained_module: Any
    dtype_policy: DTypePolicy
    _run: Run
    _require_built: Callable[[str], None]
    _is_stated: bool
    _can_be_called: bool

    @property
    def stop_training(self) -> bool:
        """A callback sets it to True to end `fit` after the running batch or epoch."""
        return self._run.stop_training

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self._run.stop_training = value

    @property
    def run_eagerly(self) -> bool:
        """What `compile` was told; setting it holds from the next `fit` on."""
        return self._compiled is not None and self._compiled.eager

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        self._require_compiled("run_eagerly").run_otherwise(eager=value)

    @property
    def steps_per_execution(self) -> int:
        """What `compile` was told; setting it holds from the next `fit` on."""
        return 1 if self._compiled is None else self._compiled.steps_per_execution

    @steps_per_execution.setter
    def steps_per_execution(self, value: int) -> None:
        self._require_compiled("steps_per_execution").run_otherwise(steps_per_execution=value)

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
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | Literal["auto"] = "auto",
        auto_scale_loss: bool = True,
        *,
        jit: bool | None = None,
        precision: DTypePolicy | str | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        ema: float | None = None,
        seed: int = 0,
        distribution: DataParallel | None = None,
    ) -> None:
        """Says what to train for; the optimizer starts afresh.

        Args:
            optimizer: a name such as `"adam"`, an `easyflax.optimizers` object, or any optax transformation.
            loss: a name, an `easyflax.losses` object, or a function `(y_true, y_pred)` that returns one value
                a row, or one for the batch. For several outputs one for all, a list in their order (None for
                an output that is not trained on), or a dict by their names. Cross-entropies by name take
                probabilities if the model ends in softmax or sigmoid, else logits. None if the modules add
                losses themselves, or `train_step` is the model's own.
            loss_weights: what the losses of several outputs count for in their sum, a list or a dict.
            metrics: names, `easyflax.metrics` objects and functions `(y_true, y_pred)` in a list; for
                several outputs a list of lists, or a dict by their names. They leave sample weights aside.
            weighted_metrics: likewise, but they heed sample weights.
            run_eagerly: computes step by step in Python, so that one can print values and use a debugger.
            steps_per_execution: steps of `fit` that go to the device in one dispatch. Hooks of batches, of
                `evaluate` and `predict` too, are then called once for so many, with the number of the first
                and of the last one.
            jit_compile: False is `run_eagerly=True`.
            auto_scale_loss: whether the optimizer becomes the inner one of a `LossScaleOptimizer` where the
                precision, or the model's dtype policy, is "mixed_float16".
            jit: another spelling of `jit_compile`.
            precision: `"mixed_bfloat16"` and `"mixed_float16"` compute in the half-size type, with weights,
                gradients, running statistics and the optimizer's state in float32; `"bfloat16"` stores
                weights in it, too; `"float32"` does neither. It holds for `fit`, `evaluate` and `predict`,
                which still return float32. Layers that were given a `dtype` keep to it; by default all layers
                go by theirs. In a `train_step` it holds for calls of models and layers; one of plain `nnx`
                modules that it calls by themselves goes by its own `dtype`.
            clipnorm: the largest L2 norm of each gradient, for any optimizer.
            clipvalue: the largest absolute value of each gradient element, likewise.
            global_clipnorm: the largest L2 norm of all gradients together, likewise.
            ema: share of the old value in a running average of the weights, such as 0.999, with which `fit`
                ends. With this or clipping, `model.optimizer` is a copy of `optimizer` with these options.
            seed: fixes the order in which `fit` shuffles.
            distribution: the devices; all of this process by default.

        Raises:
            TypeError: an argument is of no kind that is listed here.
            ValueError: a name is unknown, or a number out of range.
            RuntimeError: a `fit` of this model is running.
        """
        if self._session is not None:
            raise RuntimeError(
                "compile was called within fit of the same model, expected after it. Set what you want to "
                "change during the fit itself, such as model.optimizer.learning_rate."
            )
        given = optimizers.get(optimizer)
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        policy = check_precision(precision)
        updates = with_options(given, owner="compile", ema=ema, **clips)
        if auto_scale_loss and (policy or self.dtype_policy).name == "mixed_float16":
            updates = with_scaled_loss(updates)
        compiled = Compiled(
            updates,
            loss,
            precision=policy,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            eager=is_eager(run_eagerly, jit_compile, jit),
            steps_per_execution=steps_per_execution,
            seed=seed,
            distribution=distribution,
        )
        for one in (given, compiled.optimizer):
            one.attach(OptimizerHome(compiled.engine, self, self._binding))
        self._run.compiled = compiled
        self._store_params()

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Collection[int] = 1,
    ) -> History:
        """Trains the model.

        Args:
            x: inputs, `(rows, ...)`: a NumPy or JAX array, or a nesting of dicts, lists and tuples of them.
                Or what yields batches `x`, `(x, y)` or `(x, y, sample_weight)`: a grain or tf.data dataset, a
                torch DataLoader, a generator, any iterable, or a function that returns one. See
                `easyflax.data.as_source`.
            y: targets, likewise; None if `x` yields them.
            batch_size: rows of a step, 32 by default; the last batch of an epoch has what is left.
            epochs: the number of the epoch to stop before.
            verbose: 0 silent, 1 a bar, `"rich"` a coloured one, 2 a line an epoch; `"auto"` is 1 where
                somebody watches, on a terminal or in a notebook, else 2.
            callbacks: see `easyflax.callbacks`.
            validation_split: share of the rows, the last ones, kept for validation.
            validation_data: `(x_val, y_val)` or `(x_val, y_val, sample_weight_val)`, or what yields batches;
                goes before `validation_split`.
            shuffle: reads the rows in another order each epoch, by `compile`'s seed and the epoch.
            class_weight: how much the rows of a class count in the loss, a dict from its number.
            sample_weight: how much each row counts in the loss, `(rows,)`.
            initial_epoch: the number of the first epoch.
            steps_per_epoch: batches an epoch; the next epoch goes on in the data where this one ended.
            validation_steps: batches of a validation; all by default.
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
        epochs = check_count("epochs", epochs, 1)
        initial_epoch = check_count("initial_epoch", initial_epoch, 0)
        steps_per_epoch = check_count_or_none("steps_per_epoch", steps_per_epoch)
        data, held_out = _with_validation((x, y, sample_weight), validation_split, validation_data)
        source = as_source(
            *data,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=compiled.seed,
            steps=steps_per_epoch,
            class_weight=class_weight,
        )
        trained = self._ready_for(source)
        steps = compiled.steps_on(trained, source)
        _check_trains(steps)
        validation = None
        if held_out is not None:
            rows = validation_batch_size, batch_size
            num_steps = check_count_or_none("validation_steps", validation_steps)
            validation = self._validation(trained, held_out, rows, num_steps, validation_freq)
        plan = Plan(source, steps_per_epoch, epochs, initial_epoch, validation)

        compiled.steps = steps
        self.stop_training = False
        hooks = self._hooks(callbacks, verbose, epochs, plan.known_steps, add_history=True)
        hooks.set_validates(validation is not None)
        with hooks.on_screen(), hooks.told_of_exceptions():
            with between_steps() as interrupts, compiled.engine.session_on(trained.binding, steps) as session:
                hooks.on_train_begin()
                with session.shapes.advising_on_memory("fit"):
                    logs = run_epochs(
                        session, plan, hooks, should_stop=lambda: self.stop_training, interrupts=interrupts
                    )
            if compiled.optimizer.keeps_average and steps.uses_optimizer:
                compiled.optimizer.finalize_variable_values(trained.binding.params.values())
            hooks.on_train_end(logs)
        assert self.history is not None  # set by the list of callbacks
        return self.history

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Does one step of training on one batch.

        Args:
            x: inputs of the batch, as for `fit`.
            y: targets.
            sample_weight: as for `fit`.
            class_weight: as for `fit`.
            return_dict: returns a dict by name.

        Returns:
            loss and metrics of this batch, before the update; in the form that `evaluate` returns them.

        Raises:
            NotCompiledError: `compile` was not called.
            ValueError: the shapes or the labels do not fit.
        """
        compiled = self._require_compiled("train_on_batch")
        source = _one_batch((x, y, sample_weight), "train_on_batch", class_weight)
        trained = self._ready_for(source)
        steps = compiled.steps_on(trained, source)
        _check_trains(steps)
        with compiled.engine.session_on(trained.binding, steps) as session:
            session.begin_epoch()
            packed = session.train([source.first_batch()])
        return self._returned(BatchLogs(packed, steps.log_packing("train")).fetch(), return_dict)

    # -- evaluation and prediction

    @overload
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Callbacks = None,
        *,
        return_dict: Literal[True],
    ) -> dict[str, float]: ...

    @overload
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Callbacks = None,
        return_dict: bool = False,
    ) -> Any: ...  # a float or a list, by the number of metrics; for type checkers either

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
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
            sample_weight: how much each row counts in the loss and in weighted metrics.
            steps: batches to evaluate on; all by default.
            callbacks: whose test hooks are called.
            return_dict: returns a dict by name.

        Returns:
            the loss; with metrics, a list of the loss and the metrics in the order of `compile`; or the dict.

        Raises:
            NotCompiledError: `compile` was not called.
            ValueError: an argument, the shapes or the labels do not fit.
        """
        compiled = self._require_compiled("evaluate")
        num_steps = check_count_or_none("steps", steps, "evaluate")
        source = as_source(x, y, sample_weight, batch_size=batch_size, steps=num_steps, caller="evaluate")
        num_steps = _within_one_pass(source, num_steps)
        trained = self._ready_for(source)
        compiled_steps = compiled.steps_on(trained, source)
        hooks = self._hooks(callbacks, verbose, 1, num_steps or source.num_batches)
        with (
            hooks.on_screen(),
            between_steps() as interrupts,
            self._live(trained.binding, compiled.engine.layout) as live,
            live.shapes.advising_on_memory("evaluate"),
        ):
            logs = run_evaluation(live, source, num_steps, compiled_steps, hooks, interrupts)
        return self._returned(logs, return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Returns loss and metrics of one batch, in inference mode; see `evaluate`."""
        self._require_compiled("test_on_batch")
        source = _one_batch((x, y, sample_weight), "test_on_batch")
        rows = source.batch_size
        logs = self.evaluate(x, y, rows, verbose=0, sample_weight=sample_weight, return_dict=True)
        return self._returned(logs, return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Callbacks = None,
    ) -> Any:
        """Returns the outputs for all rows, in order, in inference mode; needs no `compile`.

        Args:
            x: inputs, as for `fit`; targets that a dataset yields are left alone.
            batch_size: rows of a step, 32 by default.
            verbose: as for `fit`.
            steps: batches to predict; all by default.
            callbacks: whose predict hooks are called.

        Returns:
            NumPy arrays of `(rows, ...)`, in the nesting that the module returns.

        Raises:
            ValueError: an argument or the shapes do not fit.
        """
        num_steps = check_count_or_none("steps", steps, "predict")
        source = as_source(x, batch_size=batch_size, steps=num_steps, caller="predict")
        num_steps = _within_one_pass(source, num_steps)
        trained = self._ready_for(source)
        layout = self._run.compiled.engine.layout if self._run.compiled else DataParallel()
        predict, pads = self._predict_step(trained)
        together = self._run.compiled.steps_per_execution if self._run.compiled else 1
        options = {"pads": pads, "steps_per_execution": together}
        hooks = self._hooks(callbacks, verbose, 1, num_steps or source.num_batches)
        with (
            hooks.on_screen(),
            between_steps() as interrupts,
            self._live(trained.binding, layout) as live,
            live.shapes.advising_on_memory("predict"),
        ):
            return run_prediction(live, source, num_steps, predict, hooks, interrupts, **options)

    def predict_on_batch(self, x: Any) -> Any:
        """Returns the outputs for one batch, in inference mode, as NumPy arrays; see `predict`."""
        return self.predict(x, _one_batch((x, None, None), "predict_on_batch").batch_size, verbose=0)

    # -- looking at it

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer: its learning rate can be read and set, also by a callback."""
        scope = current_scope()
        return self._require_compiled("optimizer").optimizer if scope is None else scope.optimizer

    @property
    def loss(self) -> Any:
        """What `compile` was given as `loss`."""
        return None if self._compiled is None else self._compiled.loss

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compiled is not None

    @property
    def step(self) -> int:
        """Training steps done since `compile`, over all calls of `fit`."""
        return self._run.compiled.engine.steps_done if self._run.compiled else 0

    def optimizer_state_if_any(self) -> Any:
        """Returns the optimizer's state, None before any training."""
        if self._run.compiled is None or not self.step:
            return None
        return self._run.compiled.engine.opt_state(self._binding())

    # -- what the methods above share

    @property
    def _compiled(self) -> Compiled | None:
        return self._run.compiled

    def _require_compiled(self, call: str) -> Compiled:
        if self._run.compiled is None:
            raise NotCompiledError(
                f"{call}: the model is not compiled, expected a loss and an optimizer. Call first, for "
                f"example, model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', "
                f"metrics=['accuracy'])."
            )
        return self._run.compiled

    def _ready_for(self, source: Source) -> Trained:
        """Builds what has no weights yet, and returns the model as the steps see it."""
        batch = source.first_batch()
        self._check_input(batch.x)
        self._run.input_specs = specs(batch.x)
        trained = self._trained()
        if has_unbuilt(self.trained_module) and trained.can_be_called:
            build_on(self.trained_module, batch.x)
            trained = self._trained()
        self._store_params()
        while trained.overridden and self._run.compiled and self._run.compiled.build_lazily(trained, batch):
            trained = self._trained()
        return trained

    def _check_input(self, x: Any) -> None:
        """Raises if `x` is no batch for a model that knows its single input; its layers tell of the rest."""
        if not self._is_stated or not isinstance(self.input, Symbolic):  # type: ignore[attr-defined]
            return
        shape = self.input.shape  # type: ignore[attr-defined]
        if hasattr(x, "shape") and len(x.shape) != len(shape):
            rows = ", ".join(["rows", *map(str, shape[1:])])
            one = " For a single row pass x[None]." if x.shape == shape[1:] else ""
            raise ValueError(f"x has shape {x.shape}, expected ({rows}), the input of the model.{one}")
        if isinstance(x, list | tuple | dict) and isinstance(self.trained_module, Chain):
            raise ValueError(
                f"x is a {type(x).__name__} of {len(x)}, expected one array, the input of a Sequential. Pass "
                "the array itself, or state the model as ef.Model(inputs, outputs)."
            )

    def _store_params(self) -> None:
        """Stores the parameters in the dtype that the precision of `compile` asks for."""
        compiled = self._run.compiled
        if compiled is not None and compiled.precision is not None and self._session is None:
            store_params(self.trained_module, compiled.precision)
            self._binding().sync()

    def _trained(self) -> Trained:
        output_names = getattr(self, "output_names", None) if self._is_stated else None
        return Trained(self._binding(), output_names, self._overridden, self._can_be_called, self)

    @property
    def _session(self) -> Session | None:
        return self._run.compiled.engine.session if self._run.compiled else None

    def _binding(self) -> Binding:
        if self._session:
            return self._session.binding
        if self._overridden:
            module: Any = self
            return Binding(module, "module" if self.trained_module is not self else None)
        return Binding(self.trained_module)

    @contextmanager
    def _live(self, binding: Binding, layout: DataParallel) -> Iterator[Live]:
        """Gives what holds the arrays: the running fit, or the model itself."""
        if self._session:
            yield self._session
            return
        resting = Resting(binding, layout)
        yield resting
        resting.close()

    def _validation(
        self,
        trained: Trained,
        data: tuple[Any, Any, Any],
        rows: tuple[int | None, int | None],
        num_steps: int | None,
        freq: int | Collection[int],
    ) -> Validation:
        source = as_source(
            *data, batch_size=rows[0], fallback_batch_size=rows[1], steps=num_steps, caller="validation"
        )
        num_steps = _within_one_pass(source, num_steps)
        return self._require_compiled("fit").validation(trained, source, num_steps, freq)

    def _predict_step(self, trained: Trained) -> tuple[Callable[..., Any], bool]:
        """Returns the jitted step, and whether batches may be filled up for it."""
        compiled = self._run.compiled
        precision = None if compiled is None else compiled.precision
        pads = "predict_step" not in trained.overridden
        if pads:
            predict: Callable[..., Any] = partial(predict_step, trained.binding.apply)
        else:
            predict = (compiled or Compiled(optimizers.get("rmsprop"))).own_prediction(trained).predict
        predict = in_precision(precision, predict)
        if compiled is not None and compiled.eager:
            return predict, pads
        key = trained.binding.graphdef, precision
        return self._run.predict_steps.get(key, lambda: jax.jit(predict)), pads

    def _returned(self, logs: dict[str, Any], return_dict: bool) -> Any:
        """Returns logs in the form that was asked for."""
        if return_dict:
            return in_keras_order(logs)
        values = [logs[name] for name in self._in_list_order(logs)]
        return values if len(values) > 1 else values[0]

    def _hooks(
        self, callbacks: Callbacks, verbose: Any, epochs: int, steps: int | None, *, add_history: bool = False
    ) -> CallbackList:
        show = check_verbose(verbose) != 0
        return CallbackList(callbacks, add_history, show, self, verbose=verbose, epochs=epochs, steps=steps)


def _with_validation(
    data: tuple[Any, Any, Any], fraction: float, validation_data: Any
) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any] | None]:
    """Returns what to train on, and what to validate on or None: inputs, targets, sample weights."""
    if validation_data is not None:
        return data, unpack_validation_data(validation_data)
    if fraction:
        return split_validation(*data, fraction)
    return data, None


def _one_batch(data: tuple[Any, Any, Any], caller: str, class_weight: Any = None) -> Source:
    """Returns a source whose only batch is all of the data."""
    rows = max((np.shape(leaf)[0] for leaf in jax.tree.leaves(data[0]) if np.ndim(leaf)), default=1)
    return as_source(*data, batch_size=max(rows, 1), class_weight=class_weight, caller=caller)


def _within_one_pass(source: Source, num_steps: int | None) -> int | None:
    if num_steps is None or source.num_batches is None:
        return num_steps
    return min(num_steps, source.num_batches)


def _check_trains(steps: CompiledSteps) -> None:
    if steps.own is None and not steps.objective.has_loss:
        raise ValueError(
            "compile: loss is None, expected a name, a Loss or a function (y_true, y_pred), since no module "
            "adds a loss. Pass for example loss='sparse_categorical_crossentropy' for classes numbered from "
            "0, or loss='mse' for numbers."
        )
