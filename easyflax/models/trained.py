"""`TrainedModel`: what training, evaluation and prediction of a model have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from easyflax.data import Source, as_source
from easyflax.distribution import DataParallel
from easyflax.errors import NotCompiledError
from easyflax.layers.building import build_on, has_unbuilt
from easyflax.layers.dtypes import DTypePolicy
from easyflax.layers.precision import store_params
from easyflax.layers.symbolic import Symbolic
from easyflax.models.chain import Chain
from easyflax.models.compiled import Compiled, Trained
from easyflax.models.run import Run
from easyflax.models.step_methods import StepMethods
from easyflax.train.binding import Binding
from easyflax.train.callback_list import CallbackList, Callbacks
from easyflax.train.logs import in_keras_order
from easyflax.train.progress import check_verbose
from easyflax.train.session import Live, Resting, Session
from easyflax.train.specs import specs

__all__ = ["TrainedModel", "one_batch", "within_one_pass"]


class TrainedModel(StepMethods):
    """Makes a model ready for data, and holds its arrays while something runs."""

    __slots__ = ()

    trained_module: Any
    dtype_policy: DTypePolicy
    _run: Run
    _require_built: Callable[[str], None]
    _is_stated: bool
    _can_be_called: bool

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
        remat = None if self._run.compiled is None else self._run.compiled.remat
        if self._overridden:
            module: Any = self
            return Binding(module, "module" if self.trained_module is not self else None, remat)
        return Binding(self.trained_module, remat=remat)

    @contextmanager
    def _live(self, binding: Binding, layout: DataParallel) -> Iterator[Live]:
        """Gives what holds the arrays: the running fit, or the model itself."""
        if self._session:
            yield self._session
            return
        resting = Resting(binding, layout)
        yield resting
        resting.close()

    def _returned(self, logs: dict[str, Any], return_dict: bool) -> Any:
        """Returns logs in the form that was asked for."""
        if return_dict:
            return in_keras_order(logs)
        values = [logs[name] for name in self._in_list_order(logs)]
        return values if len(values) > 1 else values[0]

    def _hooks(
        self, callbacks: Callbacks, verbose: Any, *, add_history: bool = False, **params: Any
    ) -> CallbackList:
        """Returns the list of callbacks, told of model, and of `verbose` and `params` if there are some."""
        show = check_verbose(verbose) != 0
        params = {"verbose": verbose, **params} if params else {}
        return CallbackList(callbacks, add_history, show, self, **params)


def one_batch(data: tuple[Any, Any, Any], caller: str, class_weight: Any = None) -> Source:
    """Returns a source whose only batch is all of the data."""
    rows = max((np.shape(leaf)[0] for leaf in jax.tree.leaves(data[0]) if np.ndim(leaf)), default=1)
    return as_source(*data, batch_size=max(rows, 1), class_weight=class_weight, caller=caller)


def within_one_pass(source: Source, num_steps: int | None) -> int | None:
    if num_steps is None or source.num_batches is None:
        return num_steps
    return min(num_steps, source.num_batches)
