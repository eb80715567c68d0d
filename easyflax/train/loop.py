"""The loops over batches: training, evaluation and prediction.

They call hooks, and do not wait for the device themselves except once an epoch, when its logs are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from easyflax.data import ArraySource
from easyflax.distribution import DataParallel
from easyflax.errors import NonFiniteLossError
from easyflax.train.binding import Arrays
from easyflax.train.callback_list import CallbackList
from easyflax.train.in_flight import InFlight
from easyflax.train.interrupts import Interrupts
from easyflax.train.logs import BatchLogs, in_keras_order
from easyflax.train.packing import Packed
from easyflax.train.session import CompiledSteps, Session
from easyflax.train.state import Counters


@dataclass(frozen=True)
class Validation:
    """What a fit validates on.

    Attributes:
        source: the validation data.
        steps: the compiled steps for it.
        is_due: says for an epoch's number, from 0, whether validation follows it.
    """

    source: ArraySource
    steps: CompiledSteps
    is_due: Callable[[int], bool]


@dataclass(frozen=True)
class Plan:
    """What a fit is to do.

    Attributes:
        source: the training data.
        steps_per_epoch: batches an epoch; epochs go on where the last one ended in the data.
        epochs: the number of the epoch to stop before.
        initial_epoch: the number of the first epoch.
        validation: what to validate on, if anything.
    """

    source: ArraySource
    steps_per_epoch: int
    epochs: int
    initial_epoch: int
    validation: Validation | None


def run_epochs(
    session: Session,
    plan: Plan,
    callbacks: CallbackList,
    *,
    should_stop: Callable[[], bool],
    interrupts: Interrupts,
) -> dict[str, float]:
    """Trains for the epochs of `plan` and returns the logs of the last one.

    Args:
        session: does the steps.
        plan: what to do.
        callbacks: whose hooks are called.
        should_stop: says after each batch and epoch whether a callback wants to stop.
        interrupts: asked after each step.

    Raises:
        NonFiniteLossError: the loss of a step was NaN or infinite.
    """
    logs: dict[str, float] = {}
    for epoch in range(plan.initial_epoch, plan.epochs):
        callbacks.call("on_epoch_begin", epoch, {})
        logs = in_keras_order(_train_one_epoch(session, plan, epoch, callbacks, should_stop, interrupts))
        if plan.validation and plan.validation.is_due(epoch):
            logs |= _validate(session, plan.validation, callbacks, interrupts)
        session.show()
        callbacks.call("on_epoch_end", epoch, logs)
        if should_stop():
            break
    return logs


def _validate(
    session: Session, validation: Validation, callbacks: CallbackList, interrupts: Interrupts
) -> dict[str, float]:
    logs = run_evaluation(
        session.arrays, validation.source, validation.steps, callbacks, session.layout, interrupts
    )
    return {f"val_{name}": value for name, value in logs.items()}


def _train_one_epoch(
    session: Session,
    plan: Plan,
    epoch: int,
    callbacks: CallbackList,
    should_stop: Callable[[], bool],
    interrupts: Interrupts,
) -> dict[str, float]:
    if epoch > plan.initial_epoch:
        session.next_epoch()
    first_step = session.steps_done

    def check(values: dict[str, Any]) -> None:
        # The mean over the epoch is not finite from the first loss on that is not.
        if not np.isfinite(values["loss"]):
            counters = jax.device_get(session.state.counters)
            check_finite(counters, first_step=first_step, epoch=epoch, plan=plan)

    def logs_of(packed: Packed) -> BatchLogs:
        return BatchLogs(packed, session.steps.objective.log_packing, check)

    start = epoch * plan.steps_per_epoch
    packed = None
    for number, batch in enumerate(plan.source.batches(start, start + plan.steps_per_epoch)):
        callbacks.train_batch_begin(number)
        packed = session.train(batch)
        callbacks.train_batch_end(number, logs_of(packed))
        interrupts.check()
        if should_stop():
            break
    session.check_unchanged()
    return logs_of(packed).fetch() if packed else {}


def check_finite(counters: Counters, *, first_step: int, epoch: int, plan: Plan) -> None:
    """Raises if a loss of this epoch was not finite.

    Args:
        counters: fetched to the host.
        first_step: the number of the epoch's first step.
        epoch: the epoch, from 0.
        plan: knows how many epochs and steps there are.
    """
    step = int(counters.steps[1])
    if step < 0:
        return
    last = float(counters.last_finite)
    before = "it was the first step" if np.isnan(last) else f"the loss of the step before it was {last:.6g}"
    raise NonFiniteLossError(
        f"fit: the loss became NaN or infinite in epoch {epoch + 1}/{plan.epochs}, batch "
        f"{step - first_step + 1}/{plan.steps_per_epoch} ({before}), expected finite numbers. Look for NaN "
        f"and infinity in x and y (np.isfinite), scale the inputs, lower the learning rate, or clip the "
        f"gradients."
    )


def run_evaluation(
    arrays: Callable[[], tuple[Arrays, Arrays]],
    source: ArraySource,
    steps: CompiledSteps,
    callbacks: CallbackList,
    layout: DataParallel,
    interrupts: Interrupts,
) -> dict[str, float]:
    """Returns loss and metrics over one pass of `source`, exact for any number of rows.

    Args:
        arrays: returns the live arrays of the model; asked before each step, since hooks may change weights.
        source: the batches, of which padded rows are not counted.
        steps: what to run.
        callbacks: whose test hooks are called.
        layout: the devices.
        interrupts: asked after each step.
    """
    callbacks.call("on_test_begin", {})
    in_flight, packing = InFlight(layout), steps.objective.log_packing
    metrics, packed = steps.fresh_metrics(), None
    for number, batch in enumerate(source.batches(0, source.num_batches or 0)):
        callbacks.call("on_test_batch_begin", number, {})
        metrics, packed = steps.evaluate(*arrays(), metrics, layout.put_batch(batch))
        in_flight.add(packed)
        callbacks.call("on_test_batch_end", number, BatchLogs(packed, packing))
        interrupts.check()
    results = in_keras_order(BatchLogs(packed, packing).fetch() if packed else {})
    callbacks.call("on_test_end", results)
    return results


def run_prediction(
    arrays: Callable[[], tuple[Arrays, Arrays]],
    source: ArraySource,
    predict: Callable[..., Any],
    callbacks: CallbackList,
    layout: DataParallel,
    interrupts: Interrupts,
) -> Any:
    """Returns the outputs for all rows of `source`, in order.

    They are NumPy arrays in the nesting that the model returns.

    Args:
        arrays: returns the live arrays of the model; asked before each step, since hooks may change weights.
        source: the batches; padded rows are cut off.
        predict: the jitted `predict_step`.
        callbacks: whose predict hooks are called.
        layout: the devices.
        interrupts: asked after each step.
    """
    callbacks.call("on_predict_begin", {})
    collected: list[Any] = []
    running: Any = None  # the newest step computes while the one before it is copied to the host
    for number, batch in enumerate(source.batches(0, source.num_batches or 0)):
        callbacks.call("on_predict_batch_begin", number, {})
        outputs = _real_rows(predict(*arrays(), layout.put_batch(batch.x)), source.real_rows(number))
        callbacks.call("on_predict_batch_end", number, {"outputs": outputs})
        if number:
            collected.append(jax.device_get(running))
        running = outputs
        interrupts.check()
    collected.append(jax.device_get(running))
    callbacks.call("on_predict_end", {})
    return jax.tree.map(lambda *parts: np.concatenate(parts), *collected)


def _real_rows(outputs: Any, rows: int) -> Any:
    return jax.tree.map(lambda array: array if array.shape[0] == rows else array[:rows], outputs)
