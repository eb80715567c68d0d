"""Steps of a model's own: `train_step`, `test_step`, `predict_step`, `compute_loss` and `compute_metrics`.

The methods are written in the manner of NNX and Keras: they call the model, take gradients, update optimizers
and metrics in place. Here they become pure functions like the steps of `step.py`: each trace puts the model
together from the arrays of the state, calls the method on that copy, and reads the arrays back.

While a method runs, a `Scope` stands for what else `compile` made: the optimizer, the metrics and the loss,
with their states of this trace. `Model`'s own methods find it by `current_scope`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.nnx as nnx
from easyflax.data import Batch
from easyflax.layers.freezing import set_mode
from easyflax.layers.layer import Layer
from easyflax.layers.weight_order import in_order_of_weights
from easyflax.metrics import Metric
from easyflax.optimizers import Optimizer
from easyflax.optimizers.loss_scale import leaves_steps_out
from easyflax.train.accumulation import PENDING, add_gradients
from easyflax.train.additions import Update, after_update, before_update
from easyflax.train.binding import Arrays, Binding, stored_like
from easyflax.train.compiled_loss import CompiledLoss
from easyflax.train.compiled_metrics import Unweighted
from easyflax.train.objective import Named
from easyflax.train.outputs import Outputs
from easyflax.train.packing import Packed, Packing
from easyflax.train.scores import real_rows
from easyflax.train.state import Counters, TrainState, count_step
from easyflax.train.stateless_steps import call_on_lists, is_stateless
from easyflax.train.step import Objective, OwnLoss, changed, gradients, score, unscaled, update

__all__ = ["OVERRIDABLE", "OwnSteps", "Scope", "current_scope", "pack", "unpack"]

# The methods that make a step one of the model's own.
OVERRIDABLE = (
    "train_step",
    "test_step",
    "predict_step",
    "compute_loss",
    "compute_metrics",
    "get_metrics_result",
    "reset_metrics",
    "metrics",
)

_MODES = ("deterministic", "use_running_average")

_scope: ContextVar[Scope | None] = ContextVar("easyflax_step_scope", default=None)


def current_scope() -> Scope | None:
    """Returns the scope of the step that is being traced, if one is."""
    return _scope.get()


@dataclass(frozen=True)
class OwnSteps:
    """The steps of a model with methods of its own.

    Attributes:
        objective: what is computed.
        named: what `compile` named.
        binding: of the whole model.
        optimizer: that of `compile`.
        overridden: which of `OVERRIDABLE` the model's class defines.
    """

    objective: Objective
    named: Named
    binding: Binding
    optimizer: Optimizer
    overridden: frozenset[str]

    def train(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """Returns the state after the model's `train_step`, and the logs that it returns."""
        additions = self.objective.shape.additions
        before = before_update(additions, state.additions, state.opt_state)
        scope, logs, state = self._train(state, before, batch)
        grads = scope.grads if scope.grads is None else unscaled(self.objective, scope.grads, before)
        after = after_update(additions, state.additions, Update(state.params, grads))
        return replace(state, additions=after), logs

    def accumulate(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """Returns the state with gradients added to those that wait; `train_step` is not the model's own."""
        scope, logs, after = self._train(state, state.opt_state, batch)
        assert scope.grads is not None
        pending = add_gradients(state.additions[PENDING], scope.grads, real_rows(batch))
        return replace(after, additions={**state.additions, PENDING: pending}), logs

    def _train(
        self, state: TrainState, opt_state: Any, batch: Batch
    ) -> tuple[Scope, dict[str, Any], TrainState]:
        model = self.binding.rebuild({**state.params, **state.other})
        scope = Scope(self, model, state.metrics, opt_state, state.counters)
        with self.binding.rematerializing(model):
            logs = scope.call("train_step", pack(batch))
        params, other = self.binding.values_in(model)
        params, other = stored_like(params, state.params), stored_like(other, state.other)
        loss, opt_state = jnp.asarray(logs.get("loss", 0.0), jnp.float32), scope.opt_state()
        counters = count_step(state.counters, loss, leaves_steps_out(opt_state))
        changes = {"params": params, "other": other, "opt_state": opt_state, "counters": counters}
        return scope, logs, replace(state, metrics=scope.packed_metrics(), **changes)

    def evaluate(
        self, params: Arrays, other: Arrays, metrics: Packed, batch: Batch
    ) -> tuple[Arrays, Packed, dict[str, Any]]:
        """Returns the variables that `test_step` changed, the accumulators after it, and its logs."""
        model = self.binding.rebuild({**params, **other})
        scope = Scope(self, model, metrics)
        logs = scope.call("test_step", pack(batch))
        after = stored_like(self.binding.values_in(model)[1], other)
        return changed(other, after), scope.packed_metrics(), logs

    def predict(self, params: Arrays, other: Arrays, x: Any) -> tuple[Any, Arrays]:
        """Returns what `predict_step` returns, and the variables that it changed."""
        model = self.binding.rebuild({**params, **other})
        outputs = Scope(self, model).call("predict_step", pack(Batch(x)))
        after = stored_like(self.binding.values_in(model)[1], other)
        return outputs, changed(other, after)

    def reset(self, params: Arrays, other: Arrays) -> tuple[Arrays, Packed]:
        """Returns the variables that `reset_metrics` changes, and empty accumulators."""
        model: Any = self.binding.rebuild({**params, **other})
        scope = Scope(self, model, self.objective.scores.fresh())
        with scope.active():
            model.reset_metrics()
        return changed(other, self.binding.values_in(model)[1]), scope.packed_metrics()


class Scope:
    """What the methods of a model find while a step of it runs; one for each trace.

    Args:
        steps: what is run.
        model: the copy that it is run on.
        metrics: the packed states of the accumulators, None in a prediction.
        opt_state: the optimizer's state, None outside of training.
        counters: of the training.

    Attributes:
        metrics: what accumulates, with the states of this trace, by log name.
        used_optimizer: whether the optimizer of `compile` was asked for.
        grads: the gradients of the step that `fit` has anyway, times the scale of the loss; None if another
            ran.
    """

    def __init__(
        self,
        steps: OwnSteps,
        model: Any,
        metrics: Packed | None = None,
        opt_state: Any = None,
        counters: Counters | None = None,
    ):
        self.steps = steps
        self.model = model
        self.used_optimizer = False
        self.grads: Arrays | None = None
        self.metrics: dict[str, Metric] = {}
        self._opt_state = opt_state
        self._counters = counters
        if metrics is not None:
            states = steps.objective.scores.packing.unpack(metrics)
            accumulators = steps.objective.scores.accumulators
            self.metrics = {name: _holding(accumulators[name], states[name]) for name in accumulators}
            for name, scored in steps.objective.scores.metrics.by_name.items():
                if not scored.is_weighted:
                    self.metrics[name] = Unweighted(self.metrics[name])

    @contextmanager
    def active(self) -> Iterator[None]:
        """Makes this the current scope of the block."""
        token = _scope.set(self)
        try:
            yield
        finally:
            _scope.reset(token)

    def call(self, name: str, data: Any) -> Any:
        """Calls the model's method of this name, in whichever style it is written."""
        _set_mode(self.model, training=name == "train_step")
        with self.active():
            if is_stateless(type(self.model), name):
                result = call_on_lists(self, name, data)
            else:
                result = getattr(self.model, name)(data)
        return result if name == "predict_step" else _checked_logs(name, type(self.model), result)

    def packed_metrics(self) -> Packed:
        """Returns the packed states of the accumulators by now."""
        states = {
            name: [variable.get_raw_value() for variable in metric.variables]
            for name, metric in self.metrics.items()
        }
        return self.steps.objective.scores.packing.pack(states)

    # -- what the model's own methods do by default

    def train_step(self, model: Any, data: Any) -> dict[str, Any]:
        """Does what `fit` does without a `train_step` of one's own."""
        batch, binding = unpack(data), self.steps.binding
        params, other = binding.values_in(model)
        objective, key = self.steps.objective, None
        if self._counters is not None:
            key = objective.key(self._counters)
        self.grads, scored = gradients(
            objective, params, other, self.opt_state(), batch, key=key, own_loss=self._own_loss(batch, True)
        )
        self.used_optimizer = True
        if not objective.shape.accumulates:
            params, opt_state = update(objective, self.grads, self.opt_state(), params)
            self.set_opt_state(opt_state)
        binding.write(model, {**params, **scored.applied.other})
        return self._logs(model, batch, scored.means, scored.applied.output)

    def test_step(self, model: Any, data: Any) -> dict[str, Any]:
        """Does what `evaluate` does without a `test_step` of one's own."""
        batch, binding = unpack(data), self.steps.binding
        own_loss = self._own_loss(batch, False)
        params, other = binding.values_in(model)
        scored = score(self.steps.objective, params, other, batch, training=False, own_loss=own_loss)
        binding.write(model, {**params, **scored.applied.other})
        return self._logs(model, batch, scored.means, scored.applied.output)

    def predict_step(self, model: Any, data: Any) -> Any:
        """Does what `predict` does without a `predict_step` of one's own."""
        params, other = self.steps.binding.values_in(model)
        applied = self.steps.objective.apply(params, other, unpack(data).x, training=False)
        self.steps.binding.write(model, {**params, **applied.other})
        return applied.output

    def update_metrics(self, y: Any, y_pred: Any, sample_weight: Any) -> None:
        """Adds a batch to the metrics that `compile` was given."""
        compiled, reason = self.steps.objective.scores.metrics, self.steps.objective.reason
        if reason is not None and (self.steps.named.metrics.spec or self.steps.named.weighted_metrics.spec):
            raise reason
        for name, scored in compiled.by_name.items():
            targets, outputs, weight = compiled.arguments(scored, y, y_pred, sample_weight)
            weights = {} if weight is None else {"sample_weight": weight}
            self.metrics[name].update_state(targets, outputs, **weights)

    def loss(self, y: Any, y_pred: Any, sample_weight: Any) -> Any:
        """Returns the loss of `compile` for targets and outputs, None if there is none."""
        compiled = self.steps.objective.loss
        if not compiled.parts and self.steps.named.loss.spec is not None:
            compiled = loss_for(self.steps.named, y, y_pred)
        return compiled(y, y_pred, sample_weight)[0] if compiled.parts else None

    def _logs(self, model: Any, batch: Batch, means: Mapping[str, Any], y_pred: Any) -> dict[str, Any]:
        for name, value in means.items():
            self.metrics[name].update_state(value, sample_weight=real_rows(batch))
        return model.compute_metrics(batch.x, batch.y, y_pred, batch.sample_weight)

    def _own_loss(self, batch: Batch, training: bool) -> OwnLoss | None:
        if "compute_loss" not in self.steps.overridden:
            return None

        def own_loss(model: Any, y_pred: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            takes_mode = "training" in inspect.signature(model.compute_loss).parameters
            mode = {"training": training} if takes_mode else {}
            loss = model.compute_loss(batch.x, batch.y, y_pred, batch.sample_weight, **mode)
            if loss is None or jnp.shape(loss) != ():
                raise ValueError(
                    f"{type(model).__name__}.compute_loss returned "
                    f"{'None' if loss is None else f'shape {jnp.shape(loss)}'}, expected a scalar. Return "
                    "the mean over the batch."
                )
            return jnp.asarray(loss), {}

        return own_loss

    # -- where the optimizer's state is; see `Optimizer.attach`

    @functools.cached_property
    def optimizer(self) -> Optimizer:
        """The optimizer of `compile`, with the state of this trace."""
        self.used_optimizer = True
        return self.steps.optimizer.attached(self)

    @property
    def iterations(self) -> Any:
        """Training steps done before this one."""
        return 0 if self._counters is None else self._counters.steps[0]

    def opt_state(self) -> Any:
        """Returns the optimizer's state."""
        return self._opt_state

    def set_opt_state(self, opt_state: Any) -> None:
        """Replaces the optimizer's state."""
        self.used_optimizer = True
        self._opt_state = opt_state

    def params(self) -> nnx.State:
        """Returns the trained variables of the model, nested as the optimizer sees them."""
        return self.steps.binding.params_in(self.model)

    def trainable_variables(self) -> list[nnx.Variable[Any]]:
        """Returns them in the order of the model's weights."""
        return in_order_of_weights(self.model, self.params())


def pack(batch: Batch) -> Any:
    """Returns a batch as methods of one's own are given it: `x`, `(x, y)` or `(x, y, sample_weight)`."""
    if batch.sample_weight is not None:
        return batch.x, batch.y, batch.sample_weight
    if batch.y is not None:
        return batch.x, batch.y
    return (batch.x,) if isinstance(batch.x, list | tuple) else batch.x


def unpack(data: Any) -> Batch:
    """Returns the batch that `pack` made data of.

    Raises:
        ValueError: it is a tuple of more than three.
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return Batch(data)
    if len(data) > 3:
        raise ValueError(
            f"A step was given {len(data)} values, expected (x,), (x, y) or (x, y, sample_weight). Nest "
            "several inputs: ((x1, x2), y)."
        )
    return Batch(*data)


def loss_for(named: Named, y: Any, y_pred: Any, output_names: Any = None) -> CompiledLoss:
    """Returns the loss of `compile` for these targets and outputs, of which nothing else is known.

    Cross-entropies by name take them for probabilities, as in Keras.
    """
    outputs = Outputs(y_pred, output_names)
    return named.loss.resolve(y, y_pred, outputs, ["probabilities"] * len(outputs))


def log_packing(logs: Any) -> Packing:
    """Returns how logs like these, arrays or their shapes and dtypes, are packed."""
    return Packing(lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), logs))


def _set_mode(model: Any, *, training: bool) -> None:
    """Sets the mode of the modules in a model; layers are in inference mode until told `training=True`."""
    layers = [one for _, one in nnx.iter_modules(model) if isinstance(one, Layer)]
    kept = [(one, {name: vars(one)[name] for name in _MODES if name in vars(one)}) for one in layers]
    set_mode(model, training)
    for layer, modes in kept:
        for name in vars(layer).keys() & set(_MODES):
            setattr(layer, name, modes[name]) if name in modes else delattr(layer, name)


def _holding(metric: Metric, states: list[Any]) -> Metric:
    """Returns a copy of a metric with these states."""
    copy = nnx.clone(metric)
    for variable, state in zip(copy.variables, states, strict=True):
        variable.set_raw_value(state)
    return copy


def _checked_logs(name: str, cls: type, logs: Any) -> dict[str, Any]:
    if not isinstance(logs, Mapping):
        raise TypeError(
            f"{cls.__name__}.{name} returned {type(logs).__name__}, expected a dict from log names to "
            "scalars. Return for example {'loss': loss}."
        )
    flat: dict[str, Any] = {}
    for key, value in logs.items():
        flat.update(value if isinstance(value, Mapping) else {key: value})
    return {str(key): _checked_log(f"{cls.__name__}.{name}", key, value) for key, value in flat.items()}


def _checked_log(step: str, key: Any, value: Any) -> jax.Array:
    if isinstance(value, Metric):
        raise TypeError(
            f"{step} returned {key!r} as a metric, expected a scalar. Return its value: {key}.result()."
        )
    value = value.get_value() if isinstance(value, nnx.Variable) else value
    if not isinstance(value, jax.Array | np.ndarray | np.generic | float | int):
        raise TypeError(
            f"{step} returned {key!r} as {type(value).__name__}, expected a scalar. Return numbers only."
        )
    if key == "loss" and jnp.shape(value) != ():
        raise ValueError(
            f"{step} returned {key!r} of shape {jnp.shape(value)}, expected a scalar. Return the mean over "
            "the batch."
        )
    return jnp.asarray(value)
