"""`StepMethods`: the methods of a model that a class of one's own may define anew.

train_step(self, data)      a step of fit: gradients, updates, metrics; returns the logs
test_step(self, data)       a step of evaluate; returns the logs
predict_step(self, data)    a step of predict; returns the outputs
compute_loss(self, x, y, y_pred, sample_weight, training)
compute_metrics(self, x, y, y_pred, sample_weight)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax.metrics import Metric
from easyflax.models.compiled import Compiled
from easyflax.nnx.core.walk import walk
from easyflax.train.own_steps import OVERRIDABLE, Scope, current_scope, loss_for
from easyflax.train.specs import specs
from easyflax.train.stateless_steps import step_on_lists

__all__ = ["StepMethods"]


class StepMethods:
    """What a step does, in pieces.

    All are compiled as pure functions of the model's arrays, sharded and donated like the step that `fit`
    has anyway: they may call modules, take gradients with `nnx.value_and_grad`, change variables, update
    optimizers and metrics, and everything is kept. Python's side effects happen when a step is traced, once
    for each shape of data, unless `compile(run_eagerly=True)` says otherwise.
    """

    __slots__ = ()

    _compiled: Compiled | None
    run_eagerly: bool

    @property
    def jit_compile(self) -> bool:
        """Whether steps are compiled: the opposite of `run_eagerly`, and set likewise.

        Raises:
            TypeError: set to something else than True, False or "auto", which is True.
        """
        return not self.run_eagerly

    @jit_compile.setter
    def jit_compile(self, value: bool | Literal["auto"]) -> None:
        if value != "auto" and not isinstance(value, bool):
            raise TypeError(f"jit_compile is {value!r}, expected True, False or 'auto'. Set one of these.")
        self.run_eagerly = not value

    def train_step(self, data: Any, *rest: Any) -> Any:
        """Does one step of training.

        A class of one's own takes gradients and updates optimizers here, such as `self.optimizer` or
        optimizers that are attributes (`nnx.Optimizer(self.part, tx, wrt=nnx.Param)`, `optimizers.Adam()`).
        A method `(self, state, data)` is given and returns lists of arrays instead, as Keras has it on JAX,
        and so does `super().train_step(state, data)` in it; see `easyflax.train.stateless_steps`.

        Args:
            data: a batch as `fit` was given it: `x`, `(x, y)` or `(x, y, sample_weight)`.
            *rest: nothing; or the batch, and `data` is the state.

        Returns:
            scalars by log name. Those of the last step are the epoch's: return `metric.result()` for means
            over the epoch.

        Examples:
            >>> import numpy as np
            >>> import easyflax as ef
            >>> from easyflax import nnx
            >>> class Net(ef.Model):
            ...     def train_step(self, data):
            ...         x, y = data
            ...         def loss_of(model):
            ...             return self.compute_loss(x, y, model(x, training=True))
            ...         loss, grads = nnx.value_and_grad(loss_of)(self)
            ...         self.optimizer.update(self, grads)
            ...         return {"loss": loss}
            >>> x = np.ones((4, 3), np.float32)
            >>> model = Net(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
            >>> model.compile(optimizer="sgd", loss="mse")
            >>> list(model.fit(x, x.sum(1), verbose=0).history)
            ['loss']
        """
        return self._default("train_step", data, *rest)

    def test_step(self, data: Any, *rest: Any) -> Any:
        """Does one step of evaluation; see `train_step`."""
        return self._default("test_step", data, *rest)

    def predict_step(self, data: Any, *rest: Any) -> Any:
        """Does one step of prediction; returns the outputs, with a row for each row of `data`."""
        return self._default("predict_step", data, *rest)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> jax.Array:
        """Returns the loss of a batch: that of `compile`, and what layers and regularizers add.

        Args:
            x: inputs.
            y: targets.
            y_pred: what the model returned for `x`.
            sample_weight: how much rows count, or None.
            training: whether the model is trained or evaluated.
        """
        del x, training  # for classes of one's own
        scope, compiled = current_scope(), self._compiled
        loss = None
        if scope is not None:
            loss = scope.loss(y, y_pred, sample_weight)
        elif compiled is not None and compiled.named.loss.spec is not None:
            found = compiled.steps.objective.loss if compiled.steps else None
            if found is None or not found.parts:
                found = loss_for(compiled.named, specs(y), specs(y_pred))
            loss = found(y, y_pred, sample_weight)[0]
        terms = [jnp.sum(jnp.asarray(term, jnp.float32)) for term in self.losses]  # type: ignore[attr-defined]
        return sum(terms, jnp.zeros(()) if loss is None else loss)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Adds a batch to the metrics of `compile`, and returns what all metrics say by now.

        Args:
            x: inputs.
            y: targets.
            y_pred: what the model returned for `x`.
            sample_weight: how much rows count, or None.
        """
        del x
        self._scope("compute_metrics").update_metrics(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns what all metrics say by now, by log name."""
        results: dict[str, Any] = {}
        for name, metric in self._named_metrics():
            value = metric.result()
            results.update(value if isinstance(value, Mapping) else {name: value})
        return results

    def reset_metrics(self) -> None:
        """Empties all metrics, also those of `nnx` that are attributes; `fit` and `evaluate` do it when an
        epoch or an evaluation begins."""
        for metric in self.metrics:
            metric.reset_state()
        for counting in attributes_of_kind(self, nnx.Metric):
            counting.reset()

    @property
    def metrics(self) -> list[Metric]:
        """The metrics: of the loss and of `compile`, once data was seen, then those of the model's own."""
        return [metric for _, metric in self._named_metrics()]

    @property
    def metrics_names(self) -> list[str]:
        """The names of what is logged, once data was seen, in the order of `evaluate`'s list."""
        return self._in_list_order([name for name, _ in self._named_metrics()])

    @property
    def metrics_variables(self) -> list[nnx.Variable[Any]]:
        """The variables of `metrics`."""
        return [variable for metric in self.metrics for variable in metric.variables]

    # -- what the methods above share

    def _named_metrics(self) -> Iterator[tuple[str, Metric]]:
        """Yields log names and metrics; those that the class itself lists go by their own names."""
        if type(self).metrics is not StepMethods.metrics:
            yield from ((metric.name, metric) for metric in self.metrics)
            return
        scope, compiled = current_scope(), self._compiled
        if scope is not None:
            yield from scope.metrics.items()
        elif compiled is not None and compiled.steps is not None:
            yield from compiled.steps.objective.scores.accumulators.items()
        yield from ((metric.name, metric) for metric in own_metrics(self))

    def _default(self, name: str, *args: Any) -> Any:
        """Does what the step of this name does without one of the class's own, on `data` or on lists."""
        scope = self._scope(name)
        return step_on_lists(scope, name, *args) if len(args) == 2 else getattr(scope, name)(self, *args)

    def _in_list_order(self, log_names: Collection[str]) -> list[str]:
        """Returns log names as Keras orders them in lists: those that metrics have as their own go first."""
        names = [metric.name for metric in self.metrics if metric.name in log_names]
        return [*names, *sorted(set(log_names) - set(names))]

    def _scope(self, name: str) -> Scope:
        scope = current_scope()
        if scope is None:
            call = {"test_step": "test_on_batch", "predict_step": "predict_on_batch"}.get(
                name, "train_on_batch"
            )
            raise RuntimeError(
                f"{type(self).__name__}.{name} was called by itself, expected within a step of fit, evaluate "
                f"or predict, which compiles it. Call {call} instead."
            )
        return scope

    @property
    def _overridden(self) -> frozenset[str]:
        """The methods that make the steps of this model its own."""
        cls = type(self)
        names = {name for name in OVERRIDABLE if getattr(cls, name) is not getattr(StepMethods, name)}
        return frozenset(names | ({"metrics"} if own_metrics(self) else set()))


def own_metrics(model: Any) -> list[Metric]:
    """Returns the metrics that are attributes of a model or of layers in it, but of no model in it."""
    return attributes_of_kind(model, Metric)


def attributes_of_kind(model: Any, kind: Any) -> list[Any]:
    """Returns the objects of a class that are attributes of a model or of layers in it, but of no model in
    it."""
    if not any(issubclass(node.type, kind) for node in walk(model).graphdef.nodes):
        return []
    nodes = list(nnx.iter_graph(model))
    inner = [path for path, node in nodes if isinstance(node, StepMethods) and node is not model]
    found = [
        (path, node)
        for path, node in nodes
        if isinstance(node, kind) and not any(path[: len(way)] == way for way in inner)
    ]
    order = list(vars(model))
    return [node for _, node in sorted(found, key=lambda entry: order.index(entry[0][0]))]
