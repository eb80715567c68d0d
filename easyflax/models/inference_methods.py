"""`InferenceMethods`: evaluate and predict, over data and on one batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, overload

import easyflax.optimizers as optimizers
from easyflax.data import Batch, as_source
from easyflax.distribution import DataParallel
from easyflax.models.arguments import check_count_or_none
from easyflax.models.compiled import Compiled, Trained
from easyflax.models.trained import TrainedModel, one_batch, within_one_pass
from easyflax.train.binding import Arrays
from easyflax.train.callback_list import Callbacks
from easyflax.train.compiled_steps import in_precision
from easyflax.train.inference import InferenceSteps
from easyflax.train.inference_loop import run_evaluation, run_prediction
from easyflax.train.interrupts import between_steps
from easyflax.train.step import predict_step

__all__ = ["InferenceMethods"]


class InferenceMethods(TrainedModel):
    """Runs `self.trained_module` without training it."""

    __slots__ = ()

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
        num_steps = within_one_pass(source, num_steps)
        trained = self._ready_for(source)
        compiled_steps = compiled.steps_on(trained, source)
        hooks = self._hooks(callbacks, verbose, epochs=1, steps=num_steps or source.num_batches)
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
        source = one_batch((x, y, sample_weight), "test_on_batch")
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
        num_steps = within_one_pass(source, num_steps)
        trained = self._ready_for(source)
        layout = self._run.compiled.engine.layout if self._run.compiled else DataParallel()
        predict, pads = self._predict_step(trained, layout)
        together = self._run.compiled.steps_per_execution if self._run.compiled else None
        options = {"pads": pads, "steps_per_execution": together}
        hooks = self._hooks(callbacks, verbose, epochs=1, steps=num_steps or source.num_batches)
        with (
            hooks.on_screen(),
            between_steps() as interrupts,
            self._live(trained.binding, layout) as live,
            live.shapes.advising_on_memory("predict"),
        ):
            return run_prediction(live, source, num_steps, predict, hooks, interrupts, **options)

    def predict_on_batch(self, x: Any) -> Any:
        """Returns the outputs for one batch, in inference mode, as NumPy arrays; see `predict`."""
        return self.predict(x, one_batch((x, None, None), "predict_on_batch").batch_size, verbose=0)

    def _predict_step(self, trained: Trained, layout: DataParallel) -> tuple[InferenceSteps, bool]:
        """Returns the step, and whether batches may be filled up for it."""
        compiled = self._run.compiled
        precision = None if compiled is None else compiled.precision
        eager = compiled is not None and compiled.eager
        pads = "predict_step" not in trained.overridden
        if pads:
            predict: Callable[..., Any] = partial(predict_step, trained.binding.apply)
        else:
            predict = (compiled or Compiled(optimizers.get("rmsprop"))).own_prediction(trained).predict

        def step(params: Arrays, other: Arrays, carry: Any, batch: Batch) -> tuple[Arrays, Any, Any]:
            outputs, changed = in_precision(precision, predict)(params, other, batch.x)
            return changed, carry, outputs

        def new() -> InferenceSteps:
            name = "prediction step"
            return InferenceSteps(name, step, layout, keeps_all=True, eager=eager, replicates=False)

        key = trained.binding.graphdef, precision, layout.mesh, eager
        return self._run.predict_steps.get(key, new), pads
