"""`Trainer`: compile and fit, the half of `Model` that trains."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Literal

import easyflax.optimizers as optimizers
from easyflax.data import as_source, split_validation, unpack_validation_data
from easyflax.distribution import DataParallel
from easyflax.layers.dtypes import DTypePolicy
from easyflax.layers.remat import RematScope, scope_of
from easyflax.models.arguments import (
    check_count,
    check_count_or_none,
    check_precision,
    is_eager,
    validation_epochs,
)
from easyflax.models.compiled import Compiled, Trained
from easyflax.models.inference_methods import InferenceMethods
from easyflax.models.optimizer_home import OptimizerHome
from easyflax.models.profile_methods import ProfileMethods
from easyflax.models.resuming import check_resumes
from easyflax.models.state_methods import StateMethods
from easyflax.models.trained import one_batch, within_one_pass
from easyflax.optimizers import Optimizer
from easyflax.optimizers.options import with_options, with_scaled_loss
from easyflax.train.additions import StepShape
from easyflax.train.callback_list import CallbackList, Callbacks
from easyflax.train.compiled_steps import CompiledSteps
from easyflax.train.course import Course
from easyflax.train.feed import single
from easyflax.train.history import History
from easyflax.train.interrupts import between_steps
from easyflax.train.logs import BatchLogs
from easyflax.train.loop import run_epochs
from easyflax.train.own_steps import current_scope
from easyflax.train.plan import Plan, Validation
from easyflax.train.session import Session


class Trainer(InferenceMethods, ProfileMethods, StateMethods):
    """Trains, evaluates and runs `self.trained_module`, in Keras's manner; see `Model`."""

    __slots__ = ()

    _remat_scope: RematScope | None

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
    def steps_per_execution(self) -> int | Literal["auto"]:
        """What `compile` was told; setting it holds from the next `fit` on."""
        return (self._compiled.steps_per_execution if self._compiled else None) or "auto"

    @steps_per_execution.setter
    def steps_per_execution(self, value: int | Literal["auto"]) -> None:
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
        steps_per_execution: int | Literal["auto"] = "auto",
        jit_compile: bool | Literal["auto"] = "auto",
        auto_scale_loss: bool = True,
        *,
        jit: bool | None = None,
        precision: DTypePolicy | str | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        ema: float | None = None,
        gradient_accumulation_steps: int = 1,
        raises_nonfinite: bool = True,
        seed: int = 0,
        distribution: DataParallel | None = None,
        remat: RematScope | str | Sequence[str] | Callable[..., bool] | None = None,
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
            steps_per_execution: steps that go to the device in one dispatch. Hooks of batches, of `evaluate`
                and `predict` too, are then called once for so many, with the number of the first and of the
                last one. `"auto"` does several where that pays, by what a step computes, and only between
                hooks that callbacks need: see `Callback.next_batch_needed`.
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
            gradient_accumulation_steps: how many batches make one update, with the gradients of all their
                rows; a group that the end of an epoch leaves incomplete is applied. See
                `easyflax.callbacks.GradientAccumulation` for a number that changes.
            raises_nonfinite: whether `fit` ends with an error when the loss becomes NaN or infinite; False
                trains on, as Keras does.
            seed: fixes the order in which `fit` shuffles.
            distribution: the devices, and what lies where; by default `ef.distribution.DataParallel()`, all
                devices of this process. `ef.distribution.FSDP()` splits large arrays over them.
            remat: which values of the forward pass are computed again for the gradient instead of kept, which
                saves memory: `"full"` those within each layer, or module of a model of `nnx`; `"activations"`
                those of activations; a list those of layers with these names or paths ("encoder.*"). The name
                of one of `jax.checkpoint_policies`, or such a function, says which values in layers are kept
                all the same; an `ef.RematScope` says it all.

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
            gradient_accumulation_steps=gradient_accumulation_steps,
            raises_nonfinite=raises_nonfinite,
            seed=seed,
            distribution=distribution,
            remat=scope_of(remat) or self._remat_scope,
            options={**clips, "ema": ema},
        )
        home = OptimizerHome(compiled.engine, self, self._binding)
        for one in (given, compiled.optimizer):
            one.attach(home)
        self._run.compiled, self._run.home = compiled, home
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
        *,
        resume_from: str | os.PathLike[str] | None = None,
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
            resume_from: a folder of `ModelCheckpoint` or `OrbaxCheckpoint`: the fit goes on where its newest
                checkpoint was saved, in the middle of an epoch, too, and ends as the other would have ended.
                Make model, data and callbacks as they were then. A `BackupAndRestore` that has something
                goes before.

        Returns:
            the `History`: `history.history` has a list of floats for each log name.

        Raises:
            NotCompiledError: `compile` was not called.
            ValueError: an argument, the shapes or the labels do not fit; said before any training.
            NonFiniteLossError: the loss became NaN or infinite.
            CheckpointError: there is nothing in `resume_from` to go on from, or it is of another model.
        """
        compiled = self._to_train("fit")
        epochs = check_count("epochs", epochs, 1)
        initial_epoch = check_count("initial_epoch", initial_epoch, 0)
        if resume_from is not None:
            check_resumes(resume_from, initial_epoch)
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
        hooks = self._hooks(callbacks, verbose, add_history=True)
        plan = Plan(
            source,
            epochs,
            initial_epoch,
            steps_per_epoch,
            accumulation=compiled.accumulation,
            raises_nonfinite=compiled.raises_nonfinite,
            devices=tuple(compiled.engine.layout.mesh.devices.flat),
        )
        if held_out is not None:
            rows = validation_batch_size, batch_size
            plan = replace(plan, validation=_validation(held_out, rows, validation_steps, validation_freq))
        plan = hooks.configure(plan)
        hooks.set_params({"verbose": verbose, "epochs": plan.epochs, "steps": plan.known_steps})
        return self._train(trained, plan, hooks, resume_from)

    def _train(
        self, trained: Trained, plan: Plan, hooks: CallbackList, resume_from: str | os.PathLike[str] | None
    ) -> History:
        """Does what the plan says, and returns the history."""
        compiled = self._require_compiled("fit")
        steps = compiled.steps_on(trained, plan.source)
        _check_trains(steps)
        scored: CompiledSteps | None = None
        if plan.validation is not None:
            scored = compiled.steps_on(trained, plan.validation.source, "validation_data: y")

        compiled.steps = steps
        self.stop_training = False
        hooks.set_validates(plan.validation is not None)
        session_on = compiled.engine.session_on(trained.binding, steps, plan.shape)
        with hooks.on_screen(), hooks.told_of_exceptions():
            with between_steps() as interrupts, session_on as session:
                session.course = Course(
                    session, plan, hooks, get_state=self._get_state, set_state=self.set_state
                )
                hooks.on_train_begin()
                if resume_from is not None and not session.course.is_resumed:
                    self.resume(resume_from)
                with session.shapes.advising_on_memory("fit"):
                    logs = run_epochs(
                        session,
                        plan,
                        hooks,
                        validation_steps=scored,
                        should_stop=lambda: self.stop_training,
                        interrupts=interrupts,
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
        compiled = self._to_train("train_on_batch")
        source = one_batch((x, y, sample_weight), "train_on_batch", class_weight)
        trained = self._ready_for(source)
        steps = compiled.steps_on(trained, source)
        _check_trains(steps)
        with compiled.engine.session_on(trained.binding, steps) as session:
            session.begin_epoch()
            packed, _ = session.train(single(source.first_batch()))
        return self._returned(BatchLogs(packed, steps.log_packing("train")).fetch(), return_dict)

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

    def _to_train(self, call: str) -> Compiled:
        """Returns what was compiled.

        Raises:
            NotCompiledError: nothing was.
            ValueError: its optimizer was compiled into another model since.
        """
        compiled = self._require_compiled(call)
        if compiled.optimizer.home is not self._run.home:
            raise ValueError(
                f"{call}: the {type(compiled.optimizer).__name__} of this model was compiled into another "
                "model since, expected one for each, as its state is for the weights of one. Compile this "
                "model again, with another object."
            )
        return compiled

    def addition_state(self, name: str) -> Any:
        """Returns the state of a `StepAddition` of the running `fit`; the next step deletes its arrays.

        Raises:
            KeyError: there is none of that name.
            RuntimeError: no `fit` is running.
        """
        return self._running("addition_state").addition_state(name)

    def set_addition_state(self, name: str, state: Any) -> None:
        """Replaces the state of a `StepAddition` of the running `fit`, from the next step on.

        Raises:
            KeyError: there is none of that name.
            RuntimeError: no `fit` is running.
            ValueError: it is of other shapes.
        """
        self._running("set_addition_state").set_addition_state(name, state)

    def lowered_step(self, batch: Any, shape: StepShape) -> Any:
        """Returns the training step as `jax.stages.Lowered`, which tells its operations, memory and text.

        Args:
            batch: a `Batch` of arrays or of `jax.ShapeDtypeStruct`s.
            shape: what callbacks made of the step: `plan.shape`.

        Returns:
            None where steps are computed eagerly.

        Raises:
            NotCompiledError: `compile` was not called.
        """
        compiled = self._require_compiled("lowered_step")
        if compiled.eager:
            return None
        trained = self._trained()
        return compiled.engine.lowered(trained.binding, compiled.steps_for(trained, batch), shape, batch)

    def _running(self, call: str) -> Session:
        if self._session is None:
            raise RuntimeError(
                f"{call} was called while no fit of this model runs, expected a call from the hook of a "
                "callback. What is needed later can be kept at on_epoch_end."
            )
        return self._session

    def optimizer_state_if_any(self) -> Any:
        """Returns the optimizer's state, None before any training."""
        if self._run.compiled is None or not self.step:
            return None
        return self._run.compiled.engine.opt_state(self._binding())


def _with_validation(
    data: tuple[Any, Any, Any], fraction: float, validation_data: Any
) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any] | None]:
    """Returns what to train on, and what to validate on or None: inputs, targets, sample weights."""
    if validation_data is not None:
        return data, unpack_validation_data(validation_data)
    if fraction:
        return split_validation(*data, fraction)
    return data, None


def _check_trains(steps: CompiledSteps) -> None:
    if steps.own is None and not steps.objective.has_loss:
        raise ValueError(
            "compile: loss is None, expected a name, a Loss or a function (y_true, y_pred), since no module "
            "adds a loss. Pass for example loss='sparse_categorical_crossentropy' for classes numbered from "
            "0, or loss='mse' for numbers."
        )


def _validation(
    data: tuple[Any, Any, Any],
    rows: tuple[int | None, int | None],
    num_steps: int | None,
    freq: int | Collection[int],
) -> Validation:
    num_steps = check_count_or_none("validation_steps", num_steps)
    source = as_source(
        *data, batch_size=rows[0], fallback_batch_size=rows[1], steps=num_steps, caller="validation"
    )
    return Validation(source, within_one_pass(source, num_steps), validation_epochs(freq))
