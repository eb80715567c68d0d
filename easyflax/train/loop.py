"""The loops over batches: training, evaluation and prediction.

They call hooks, and do not wait for the device themselves except once an epoch, when its logs are read.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.data import Batch, Source, batch_rows, pad_batch
from easyflax.errors import NonFiniteLossError
from easyflax.train.callback_list import CallbackList
from easyflax.train.compiled_steps import CompiledSteps
from easyflax.train.in_flight import InFlight
from easyflax.train.interrupts import Interrupts
from easyflax.train.logs import BatchLogs, in_keras_order
from easyflax.train.packing import Packed
from easyflax.train.plan import Plan, Validation
from easyflax.train.session import Live, Session
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
    if course.is_resumed and should_stop():  # the run that goes on here had come to its end
        return logs
    for epoch in range(course.epoch, plan.epochs):
        callbacks.on_epoch_begin(epoch)
        logs = in_keras_order(_train_one_epoch(session, plan, epoch, callbacks, should_stop, interrupts))
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
    callbacks: CallbackList,
    should_stop: Callable[[], bool],
    interrupts: Interrupts,
) -> dict[str, float]:
    course = session.course
    if epoch > plan.initial_epoch:
        session.check_unchanged()
    left = course.begin_epoch(epoch)
    first_step = session.steps_done - course.batches

    def check(values: dict[str, Any]) -> None:
        # The mean over the epoch is not finite from the first loss on that is not.
        if plan.raises_nonfinite and not np.isfinite(values.get("loss", 0.0)):
            counters = jax.device_get(session.state.counters)
            check_finite(counters, first_step=first_step, epoch=epoch, plan=plan)

    def logs_of(packed: Packed) -> BatchLogs:
        return BatchLogs(packed, session.steps.log_packing("train"), check)

    with closing(left):
        for batches in _several(left, session.steps.steps_per_execution):
            callbacks.on_train_batch_begin(course.batches)
            course.add(len(batches), session.train(batches))
            callbacks.on_train_batch_end(course.batches - 1, logs_of(course.logs))
            interrupts.check()
            if should_stop():
                break
        else:
            _check_count(plan, epoch, course.batches)
    session.end_epoch()
    session.check_unchanged()
    return dict(logs_of(course.logs).fetch()) if course.logs else {}


def _several(batches: Iterator[Batch], number: int) -> Iterator[list[Batch]]:
    """Yields so many batches at a time, and what is left at the end."""
    while several := list(itertools.islice(batches, number)):
        yield several


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


def run_evaluation(
    live: Live,
    source: Source,
    num_steps: int | None,
    steps: CompiledSteps,
    callbacks: CallbackList,
    interrupts: Interrupts,
) -> dict[str, Any]:
    """Returns loss and metrics over one pass of `source`, exact for any number of rows.

    Args:
        live: holds the arrays of the model; asked before each step, since hooks may change weights.
        source: the batches.
        num_steps: how many of them, None for all.
        steps: what to run.
        callbacks: whose test hooks are called.
        interrupts: asked after each step.
    """
    callbacks.on_test_begin()
    in_flight, done = InFlight(live.layout), 0
    packed: Packed = {}
    changed, metrics = steps.reset(*live.arrays())
    live.change(changed)
    rows = padded_rows(source, live.layout.num_devices) if steps.objective.row_wise else None
    with closing(source.epoch(0, num_steps)) as running:
        for batches in _several(running, steps.steps_per_execution):
            callbacks.on_test_batch_begin(done)
            for batch in batches:
                batch = batch if rows is None else pad_batch(batch, rows)
                placed = live.put("evaluate", batch)
                changed, metrics, packed = steps.evaluate(*live.arrays(), metrics, placed)
                live.change(changed)
                in_flight.add(packed)
            done += len(batches)
            callbacks.on_test_batch_end(done - 1, BatchLogs(packed, steps.log_packing("evaluate")))
            interrupts.check()
    if not done:
        raise ValueError("evaluate: the data gave no batch, expected at least one. Check how they are made.")
    steps.objective.scores.store(live.layout.bring_home(metrics))
    results = in_keras_order(BatchLogs(packed, steps.log_packing("evaluate")).fetch())
    callbacks.on_test_end(results)
    return results


def run_prediction(
    live: Live,
    source: Source,
    num_steps: int | None,
    predict: Callable[..., Any],
    callbacks: CallbackList,
    interrupts: Interrupts,
    *,
    pads: bool,
    steps_per_execution: int = 1,
) -> Any:
    """Returns the outputs for all rows of `source`, in order.

    They are NumPy arrays in the nesting that the model returns.

    Args:
        live: holds the arrays of the model; asked before each step, since hooks may change weights.
        source: the batches.
        num_steps: how many of them, None for all.
        predict: the jitted `predict_step`.
        callbacks: whose predict hooks are called.
        interrupts: asked after each step.
        pads: whether the last batch may be filled up to the shape of the others.
        steps_per_execution: batches for which the hooks are called once.
    """
    callbacks.on_predict_begin()
    collected: list[Any] = []
    running: Any = None  # the newest step computes while the one before it is copied to the host
    rows = padded_rows(source, live.layout.num_devices) if pads else None
    done = 0
    with closing(source.epoch(0, num_steps)) as reading:
        for batches in _several(reading, steps_per_execution):
            callbacks.on_predict_batch_begin(done)
            found: list[Any] = []
            for batch in batches:
                padded = batch if rows is None else pad_batch(batch, rows)
                outputs, changed = predict(*live.arrays(), live.put("predict", padded).x)
                live.change(changed)
                found.append(outputs if rows is None else _first_rows(outputs, batch_rows(batch)))
            outputs = (
                found[0] if len(found) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)
            )
            if done:
                collected.append(jax.device_get(running))
            done, running = done + len(batches), outputs
            callbacks.on_predict_batch_end(done - 1, {"outputs": outputs})
            interrupts.check()
    if not done:
        raise ValueError("predict: the data gave no batch, expected at least one. Check how they are made.")
    collected.append(jax.device_get(running))
    callbacks.on_predict_end()
    return jax.tree.map(lambda *parts: np.concatenate(parts), *collected)


def padded_rows(source: Source, num_devices: int) -> int:
    """Returns how many rows every batch of an evaluation has: a multiple of the number of devices."""
    rows = source.batch_size if source.num_rows is None else min(source.batch_size, source.num_rows)
    return -(-rows // num_devices) * num_devices


def _first_rows(outputs: Any, rows: int) -> Any:
    return jax.tree.map(lambda array: array if array.shape[0] == rows else array[:rows], outputs)
