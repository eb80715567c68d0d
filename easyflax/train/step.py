"""The steps, as pure functions of arrays: what is jitted and runs on the device.

    train_step(objective, state, batch)                    -> (state, logs)
    accumulate_step(objective, state, batch)               -> (state, logs), and after a group of these
    apply_step(objective, state)                           -> state
    eval_step(objective, params, other, metrics, batch)    -> (changed, metrics, logs)
    predict_step(apply, params, other, x)                  -> (outputs, changed)

`objective` is static: what the model computes, what it is scored by, and what updates it. `changed` are those
of the variables in `other` that the call changed, such as the state of a random stream. Logs and the
accumulators behind them are packed (see `packing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import optax

from easyflax.data import Batch
from easyflax.optimizers import loss_scale
from easyflax.optimizers.loss_scale import leaves_steps_out
from easyflax.train.accumulation import PENDING, Pending, add_gradients, divided, emptied, gradients_of
from easyflax.train.additions import StepShape, Update, after_update, before_update
from easyflax.train.binding import Applied, Arrays
from easyflax.train.compiled_loss import CompiledLoss
from easyflax.train.packing import Packed
from easyflax.train.scores import Scores, real_rows
from easyflax.train.state import Counters, TrainState, count_step

# Called with the whole model (a copy) and what it returned: gives the loss, and its parts by log name.
OwnLoss = Callable[[Any, Any], tuple[jax.Array, dict[str, jax.Array]]]


_PLAIN = StepShape()


class Apply(Protocol):
    """A module as a pure function, see `Binding.apply`."""

    def __call__(
        self,
        params: Arrays,
        other: Arrays,
        x: Any,
        *,
        training: bool,
        key: jax.Array | None = None,
        then: OwnLoss | None = None,
    ) -> Applied: ...


@dataclass(frozen=True)
class Objective:
    """What the steps compute.

    Attributes:
        apply: the module as a pure function.
        loss: scores a batch.
        scores: accumulates loss and metrics.
        optimizer: updates the parameters.
        output_shape: of the model's output for one batch, in its nesting.
        row_wise: whether loss and metrics value each row, so that evaluation may pad the last batch.
        regularizers: by path, of parameters that have one; what they return is added to the loss.
        constraints: by path likewise; applied to the parameters after each update.
        seed: of the random streams that are passed to the module, None if it takes none.
        has_terms: whether the module adds to the loss.
        reason: why loss and metrics could not be fitted to the output, where that does not matter yet.
        shape: what callbacks made of the training step.
    """

    apply: Apply
    loss: CompiledLoss
    scores: Scores
    optimizer: optax.GradientTransformationExtraArgs
    output_shape: Any
    row_wise: bool
    regularizers: Mapping[str, Callable[[Any], Any]]
    constraints: Mapping[str, Callable[[Any], Any]]
    seed: int | None = None
    has_terms: bool = False
    reason: Exception | None = None
    shape: StepShape = _PLAIN

    @property
    def has_loss(self) -> bool:
        """Whether there is anything to train for, but regularizers."""
        return bool(self.loss.parts) or self.has_terms

    def key(self, counters: Counters) -> jax.Array | None:
        """Returns the key of the step that `counters` say comes next."""
        return None if self.seed is None else jax.random.fold_in(jax.random.key(self.seed), counters.steps[0])

    def whole_loss(self, loss: jax.Array, params: Arrays, terms: list[jax.Array]) -> jax.Array:
        """Returns `loss` with what regularizers say of `params`, and the terms that the module added."""
        for name, regularizer in self.regularizers.items():
            loss = loss + regularizer(params[name])
        for term in terms:
            loss = loss + jnp.sum(term)
        return loss

    def constrain(self, params: Arrays) -> Arrays:
        """Returns `params` as the constraints want them, of the same dtypes."""
        held = {name: constraint(params[name]) for name, constraint in self.constraints.items()}
        return {
            name: jax.tree.map(lambda new, old: new.astype(old.dtype), held[name], value)
            if name in held
            else value
            for name, value in params.items()
        }

    def check_labels(self, batch: Batch) -> None:
        """Raises if the loss cannot use the targets of `batch`, nested NumPy arrays, for this output."""
        if batch.y is not None:
            self.loss.check_labels(batch.y, batch.sample_weight, self.output_shape)


class Scored(NamedTuple):
    """A batch with its loss.

    Attributes:
        loss: the scalar that is trained on.
        means: the scalars to log, the loss among them, by log name.
        applied: what the call of the module gave.
        weight: what the batch counts for in a group whose gradients are added up, None for its rows.
    """

    loss: jax.Array
    means: dict[str, jax.Array]
    applied: Applied
    weight: jax.Array | None = None


def score(
    objective: Objective,
    params: Arrays,
    other: Arrays,
    batch: Batch,
    *,
    training: bool,
    key: jax.Array | None = None,
    own_loss: OwnLoss | None = None,
) -> Scored:
    """Returns the loss of a batch, of a loss function of the model's own where there is one."""
    applied = objective.apply(params, other, batch.x, training=training, key=key, then=own_loss)
    weight = None
    if own_loss is None:
        if training and objective.shape.accumulates:  # here, where masks are still attached to the outputs
            weight = objective.loss.weight_of(batch.y, applied.output, batch.sample_weight)
        loss, parts = objective.loss(batch.y, applied.output, batch.sample_weight, batch.mask)
        loss = objective.whole_loss(loss, params, applied.losses)
    else:
        loss, parts = applied.then
    return Scored(loss, {"loss": loss, **parts, **applied.sown}, applied, weight)


def gradients(
    objective: Objective,
    params: Arrays,
    other: Arrays,
    opt_state: Any,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    own_loss: OwnLoss | None = None,
) -> tuple[Arrays, Scored]:
    """Returns the gradients for a batch, times the scale of the loss, and how the batch was scored."""
    scale = loss_scale(opt_state)  # the optimizer divides the gradients by it

    def loss_of(params: Arrays) -> tuple[jax.Array, Scored]:
        scored = score(objective, params, other, batch, training=True, key=key, own_loss=own_loss)
        return scored.loss if scale is None else scored.loss * scale, scored

    (_, scored), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    return grads, scored


def update(objective: Objective, grads: Arrays, opt_state: Any, params: Arrays) -> tuple[Arrays, Any]:
    """Returns the parameters and the optimizer's state after one update with gradients."""
    updates, opt_state = objective.optimizer.update(grads, opt_state, params)
    return objective.constrain(cast(Arrays, optax.apply_updates(params, updates))), opt_state


def unscaled(objective: Objective, grads: Arrays, opt_state: Any) -> Arrays | None:
    """Returns the gradients as additions see them, None if none looks."""
    scale = loss_scale(opt_state)
    if not any(one.needs_gradients for one in objective.shape.additions):
        return None
    return grads if scale is None else jax.tree.map(lambda grad: grad / scale.astype(grad.dtype), grads)


def train_step(objective: Objective, state: TrainState, batch: Batch) -> tuple[TrainState, Packed]:
    """Returns the state after a step on `batch`, and the packed logs: the means over the epoch so far."""
    additions, key = objective.shape.additions, objective.key(state.counters)
    before = before_update(additions, state.additions, state.opt_state)
    grads, scored = gradients(objective, state.params, state.other, before, batch, key=key)
    params, opt_state = update(objective, grads, before, state.params)
    metrics, logs = _accumulate(objective.scores, state.metrics, scored, batch)
    counters = count_step(state.counters, scored.loss, leaves_steps_out(opt_state))
    seen = Update(params, unscaled(objective, grads, before))
    extras = after_update(additions, state.additions, seen)
    return TrainState(params, scored.applied.other, opt_state, metrics, counters, extras), logs


def accumulate_step(objective: Objective, state: TrainState, batch: Batch) -> tuple[TrainState, Packed]:
    """Returns the state with the gradients for `batch` added to those that wait, and the packed logs."""
    key = objective.key(state.counters)
    grads, scored = gradients(objective, state.params, state.other, state.opt_state, batch, key=key)
    weight = real_rows(batch) if scored.weight is None else scored.weight
    pending = add_gradients(state.additions[PENDING], grads, weight)
    metrics, logs = _accumulate(objective.scores, state.metrics, scored, batch)
    counters = count_step(state.counters, scored.loss, leaves_steps_out(state.opt_state))
    extras = {**state.additions, PENDING: pending}
    changes = {"other": scored.applied.other, "metrics": metrics, "counters": counters}
    return replace(state, additions=extras, **changes), logs


def apply_step(objective: Objective, state: TrainState) -> TrainState:
    """Returns the state after one update with the gradients that wait."""
    pending: Pending = divided(state.additions[PENDING], is_sum=objective.loss.is_sum)
    additions = objective.shape.additions
    before = before_update(additions, state.additions, state.opt_state)
    grads = gradients_of(pending, state.params)
    if objective.loss.is_sum:
        grads = _regularized_once(objective, grads, state.params, pending.batches, loss_scale(before))
    params, opt_state = update(objective, grads, before, state.params)
    extras = after_update(additions, state.additions, Update(params, unscaled(objective, grads, before)))
    extras[PENDING] = emptied(pending)
    return replace(state, params=params, opt_state=opt_state, additions=extras)


def _regularized_once(
    objective: Objective, grads: Arrays, params: Arrays, batches: jax.Array, scale: jax.Array | None
) -> Arrays:
    """Returns sums of gradients in which what regularizers add, the same for each batch, counts only once."""

    def penalty(params: Arrays) -> jax.Array:
        loss = objective.whole_loss(jnp.zeros((), jnp.float32), params, [])
        return loss if scale is None else loss * scale

    surplus = (batches - 1).astype(jnp.float32)
    return jax.tree.map(
        lambda grad, one: (grad - surplus * one).astype(grad.dtype), grads, jax.grad(penalty)(params)
    )


def eval_step(
    objective: Objective, params: Arrays, other: Arrays, metrics: Packed, batch: Batch
) -> tuple[Arrays, Packed, Packed]:
    """Returns what `batch` changed, the accumulators after it, scored in inference mode, and the logs."""
    scored = score(objective, params, other, batch, training=False)
    return (
        changed(other, scored.applied.other),
        *_accumulate(objective.scores, metrics, scored, batch),
    )


def predict_step(apply: Apply, params: Arrays, other: Arrays, x: Any) -> tuple[Any, Arrays]:
    """Returns the outputs for `x` in inference mode, and what the call changed.

    Raises:
        ValueError: an output does not have a row for each row of `x`.
    """
    applied = apply(params, other, x, training=False)
    check_rows(applied.output, x)
    return applied.output, changed(other, applied.other)


def check_rows(outputs: Any, x: Any) -> None:
    """Raises unless each output has a row for each row of `x`."""
    rows = jax.tree.leaves(x)[0].shape[0]
    for output in jax.tree.leaves(outputs):
        if jnp.ndim(output) == 0 or output.shape[0] != rows:
            raise ValueError(
                f"predict: the model returned shape {jnp.shape(output)} for a batch of {rows} rows, "
                f"expected ({rows}, ...). Pass a batch, of a single row x[None]; return one entry a row, or "
                f"call the module itself: model(x)."
            )


def changed(before: Arrays, after: Arrays) -> Arrays:
    """Returns the variables that hold another array after a call than before."""
    return {name: value for name, value in after.items() if not _is_same(before[name], value)}


def _is_same(before: Any, after: Any) -> bool:
    leaves = jax.tree.leaves(before), jax.tree.leaves(after)
    return len(leaves[0]) == len(leaves[1]) and all(map(lambda a, b: a is b, *leaves))


def _accumulate(scores: Scores, metrics: Packed, scored: Scored, batch: Batch) -> tuple[Packed, Packed]:
    """Returns the accumulators with one batch added, and the logs read from them, both packed."""
    states = scores.packing.unpack(metrics)
    states = scores.add(states, scored.means, batch, scored.applied.output)
    return scores.packing.pack(states), scores.log_packing.pack(scores.logs(states))
