"""The loop of training.

It calls hooks, and does not wait for the device itself except once an epoch, when its logs are read.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np

from easyflax.errors import NonFiniteLossError
from easyflax.train.callback_list import CallbackList
from easyflax.train.compiled_steps import CompiledSteps
from easyflax.train.feed import Feed
from easyflax.train.grouping import Grouping, grouping
from easyflax.train.inference_loop import run_evaluation
from easyflax.train.interrupts import Interrupts
from easyflax.train.logs import BatchLogs, in_keras_order
from easyflax.train.packing import Packed
from easyflax.train.plan import Plan, Validation
from easyflax.train.session import Session
from easyflax.train.state import Counters


def run_epochs(
    session: Session,
    plan: Plan,
    callbacks: CallbackList,
    *,
    validation_steps: CompiledSteps | None,
    should_stop: Callable[[], bool],
    interrupts: Interrupts,
) -> dict[str, float]:
    """Trains for the epochs of `plan` and returns the logs of the last one.

    Args:
        session: does the steps.
        plan: what to do.
        callbacks: whose hooks are called.
        validation_steps: what to validate with, if `plan` has a validation.
        should_stop: says after each batch and epoch whether a callback wants to stop.
        interrupts: asked after each step.

    Raises:
        NonFiniteLossError: the loss of a step was NaN or infinite.
    """
    logs: dict[str, float] = {}
    course = session.course
    how = grouping(
        "train",
        callbacks,
        plan.known_steps,
        session.steps.steps_per_execution,
        lambda: session.steps_together(plan.source.first_batch()),
        # Of other data, the place that a hook may save is that of the last batch that was read.
        can_go_ahead=hasattr(plan.source, "rows_of_epoch") and session.dispatch.takes(1, 2),
    )
    if course.is_resumed and should_stop():  # the run that goes on here had come to its end
        return logs
    for epoch in range(course.epoch, plan.epochs):
        callbacks.on_epoch_begin(epoch)
        epoch_logs = _train_one_epoch(session, plan, epoch, how, callbacks, should_stop, interrupts)
        logs = in_keras_order(epoch_logs)
        if plan.validation and validation_steps and plan.validation.is_due(epoch):
            logs |= _validate(session, plan.validation, validation_steps, callbacks, interrupts)
        session.show()
        course.end_epoch()
        callbacks.on_epoch_end(epoch, logs)
        is_last = epoch == plan.epochs - 1  # asking the source may read one batch, for the next epoch
        if should_stop() or (not is_last and plan.source.is_exhausted):
            break
    return logs


def _validate(
    session: Session,
    validation: Validation,
    steps: CompiledSteps,
    callbacks: CallbackList,
    interrupts: Interrupts,
) -> dict[str, float]:
    if validation.source.is_exhausted:
        warnings.warn(
            "validation_data was read to its end and cannot be read again: there is no validation from here "
            "on. Pass data that can, such as a function that returns a new iterator, or arrays.",
            stacklevel=4,
        )
        return {}
    logs = run_evaluation(session, validation.source, validation.num_steps, steps, callbacks, interrupts)
    return {f"val_{name}": value for name, value in logs.items()}


def _train_one_epoch(
    session: Session,
    plan: Plan,
    epoch: int,
    how: Grouping,
    callbacks: CallbackList,
    should_stop: Callable[[], bool],
    interrupts: Interrupts,
) -> dict[str, float]:
    course = session.course
    if epoch > plan.initial_epoch:
        session.check_unchanged()
    feed = course.begin_epoch(epoch, how)
    first_step = session.steps_done - course.batches

    def check(values: dict[str, Any]) -> None:
        # The mean over the epoch is not finite from the first loss on that is not.
        if plan.raises_nonfinite and not np.isfinite(values.get("loss", 0.0)):
            counters = jax.device_get(session.state.counters)
            check_finite(counters, first_step=first_step, epoch=epoch, plan=plan)

    def logs_of(packed: Packed, index: int | None = None) -> BatchLogs:
        return BatchLogs(packed, session.steps.log_packing("train"), check, index)

    with closing(feed):
        for number, train in _dispatches(session, feed, how, callbacks):
            callbacks.on_train_batch_begin(course.batches)
            packed, index = train()
            course.add(number, packed, index)
            callbacks.on_train_batch_end(course.batches - 1, logs_of(packed, index))
            interrupts.check()
            if should_stop():
                break
        else:
            _check_count(plan, epoch, course.batches)
    session.end_epoch()
    session.check_unchanged()
    return dict(logs_of(course.logs).fetch()) if course.logs else {}


def _dispatches(
    session: Session, feed: Feed, how: Grouping, callbacks: CallbackList
) -> Iterator[tuple[int, Callable[[], tuple[Packed, int | None]]]]:
    """Yields what hooks are called around: how many steps, and what does them and returns their logs.

    The logs are packed; and which of them are those of the last step, where they are of several.
    """
    while parts := feed.next(1 if session.is_looked_at else how.most(session.course.batches, callbacks)):
        if how.calls_each:
            for part in parts:
                for index in range(len(part)):
                    yield 1, partial(session.train_one, part, index)
        else:
            yield sum(map(len, parts)), partial(session.train, parts)


def _check_count(plan: Plan, epoch: int, done: int) -> None:
    """Warns where the data ended before the last step that was asked for.

    Raises:
        ValueError: there was no batch at all.
    """
    if done == 0 and epoch == plan.initial_epoch:
        raise ValueError(
            "fit: the data gave no batch, expected at least one. Check how they are made; an iterator that "
            "was read before is empty."
        )
    wanted, is_last = plan.known_steps, epoch == plan.epochs - 1
    if (wanted is not None and done < wanted) or (not is_last and plan.source.is_exhausted):
        of_steps = f" of {wanted}" if wanted is not None else ""
        warnings.warn(
            f"fit: the data ended after batch {done}{of_steps} in epoch {epoch + 1}/{plan.epochs}, and "
            "training stops there. Pass data that can be read again, such as a function that returns a new "
            "iterator, or one that gives steps_per_epoch * epochs batches.",
            stacklevel=5,
        )


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
    of_steps = f"/{plan.known_steps}" if plan.known_steps else ""
    raise NonFiniteLossError(
        f"fit: the loss became NaN or infinite in epoch {epoch + 1}/{plan.epochs}, batch "
        f"{step - first_step + 1}{of_steps} ({before}), expected finite numbers. Look for NaN "
        f"and infinity in x and y (np.isfinite), scale the inputs, lower the learning rate, or clip the "
        "gradients. callbacks.NaNHunt() tells the layer; compile(raises_nonfinite=False) trains on."
    )
