"""How a training step is timed, part by part, on a model that is as it was afterwards.

The same batch goes through the step over and over. Each time its hollow twin, which is handed the same arrays
and computes nothing, is timed as well, with the batch on the host and on the device: the differences are what
the device computes, and what the transfer takes. All of it in the groups in which steps go to the device in
`fit`. Then callbacks and data are added, in a short fit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import jax

from easyflax.data import Batch, Source, batch_rows
from easyflax.models.rehearsal import Rehearsal, TimedCallbacks
from easyflax.models.step_profile import StepProfile
from easyflax.train.callback_list import CallbackList, Callbacks
from easyflax.train.compiled_steps import CompiledSteps
from easyflax.train.feed import Part, feed_of, stacked
from easyflax.train.grouping import Grouping, grouping
from easyflax.train.hollow import hollow_dispatch
from easyflax.train.interrupts import between_steps
from easyflax.train.measured_peak import MeasuredPeak, measured_peak
from easyflax.train.plan import Plan
from easyflax.train.session import Session
from easyflax.train.specs import num_bytes
from easyflax.train.step_costs import StepCosts, StepMemory, costs_of, has_loop, memory_of_step

__all__ = ["profile_training"]

_SECONDS = 0.5  # that a series of steps may take, unless the user said how many
_FEWEST, _MOST = 3, 100


def profile_training(model: Any, source: Source, callbacks: Callbacks, num_steps: int | None) -> StepProfile:
    """Returns the profile of a training step; for the arguments see `ProfileMethods.profile`.

    Args:
        model: compiled, and not within a fit.
        source: the data.
        callbacks: whose hooks are called.
        num_steps: steps of a series; None for as many as take about half a second.
    """
    compiled = model._require_compiled("profile")
    trained = model._ready_for(source)
    layout = compiled.engine.layout
    hooks = TimedCallbacks(callbacks, model)
    devices = tuple(layout.mesh.devices.flat)
    accumulation = compiled.accumulation
    plan = Plan(source, 2, accumulation=accumulation, raises_nonfinite=False, devices=devices)
    plan = hooks.configure(plan)
    with _unchanged(model, compiled):
        steps = compiled.steps_on(trained, plan.source)
        batch = plan.source.first_batch()
        analysis = _analysed(model, trained, steps, plan, batch)
        session_on = compiled.engine.session_on(trained.binding, steps, plan.shape)
        with _metrics_kept(steps), between_steps() as interrupts, session_on as session, _restored(session):
            how = _how_grouped(session, plan, hooks, batch)
            data_seconds = _reading_seconds(source, how, num_steps)
            times = _step_times(session, batch, how, plan.batches_an_update(0), num_steps)
            number = _number_of_steps(num_steps, times.total + data_seconds)
            rehearsal = Rehearsal(model, session, plan, hooks, interrupts)
            fit_seconds = rehearsal.run(batch, math.ceil(number / how.length) * how.length)
    return StepProfile(
        model=model.name,
        rows=batch_rows(batch),
        batch_bytes=num_bytes(batch),
        devices=layout.num_devices,
        device_kind=devices[0].device_kind,
        compute_dtype=analysis.dtype,
        is_compiled=not steps.eager,
        data_seconds=data_seconds,
        transfer_seconds=times.transfer,
        dispatch_seconds=times.dispatch,
        device_seconds=times.device,
        callbacks_seconds=sum(spent.step for spent in hooks.times().values()),
        epochs_seconds=hooks.epochs_seconds,
        fit_seconds=fit_seconds,
        compile_seconds=times.first + (0.0 if how.is_looped else analysis.seconds),
        callbacks=hooks.times(),
        steps_per_dispatch=how.length,
        costs=analysis.costs,
        has_loop=analysis.has_loop,
        memory=analysis.memory,
        peak=analysis.peak,
    )


def _how_grouped(session: Session, plan: Plan, hooks: CallbackList, batch: Batch) -> Grouping:
    """Returns in which groups `fit` would do the steps."""
    asked = session.steps.steps_per_execution
    return grouping("train", hooks, plan.known_steps, asked, lambda: session.steps_together(batch))


# -- what XLA says of the step


@dataclass(frozen=True)
class _Analysis:
    """What is known of a step without running it, and of the devices."""

    dtype: str
    seconds: float = 0.0
    costs: StepCosts | None = None
    has_loop: bool = False
    memory: StepMemory | None = None
    peak: MeasuredPeak | None = None


def _analysed(model: Any, trained: Any, steps: CompiledSteps, plan: Plan, batch: Batch) -> _Analysis:
    engine = model._compiled.engine
    dtype = (model._compiled.precision or model.dtype_policy).compute_dtype or "float32"
    if steps.eager:
        return _Analysis(dtype)
    begin = time.perf_counter()
    lowered = engine.lowered(trained.binding, steps, plan.shape, batch)
    compiled = lowered.compile()
    seconds = time.perf_counter() - begin
    costs = costs_of(lowered, compiled, engine.layout.num_devices)
    peak = measured_peak(plan.devices, dtype)
    return _Analysis(dtype, seconds, costs, has_loop(lowered), memory_of_step(compiled), peak)


# -- the parts


def _reading_seconds(source: Source, how: Grouping, num_steps: int | None) -> float:
    """Returns what it takes to read a batch when nothing else is done.

    The first group does not count, if there are more: a batch of it was read before, to learn its shape.
    """
    done, most = 0, max(num_steps or _MOST, how.length)
    marks = [(0, time.perf_counter())]
    for number in range(most if source.num_batches else 1):  # passes, where there can be several
        with closing(feed_of(source, number, None, how)) as feed:
            while done < most and (parts := feed.next(min(how.length, most - done))):
                done += sum(map(len, parts))
                marks.append((done, time.perf_counter()))
                if num_steps is None and done >= _FEWEST and marks[-1][1] - marks[0][1] > _SECONDS:
                    most = done
        if done >= most or done == 0:
            break
    marks = marks[1:] if len(marks) > 2 else marks
    (first, begin), (last, end) = marks[0], marks[-1]
    return (end - begin) / max(last - first, 1)


@dataclass(frozen=True)
class _StepTimes:
    """Seconds a step; `first` is what the first one took longer than others, which compiles."""

    transfer: float
    dispatch: float
    device: float
    first: float

    @property
    def total(self) -> float:
        return self.transfer + self.dispatch + self.device


def _step_times(
    session: Session, batch: Batch, how: Grouping, repeats: int, num_steps: int | None
) -> _StepTimes:
    """Returns the parts of a step, each that of one which little disturbed.

    Args:
        session: to be restored afterwards.
        batch: goes through each step.
        how: steps are grouped.
        repeats: batches that make an update.
        num_steps: how many; None for as many as take about half a second.
    """
    session.begin_epoch(repeats)
    on_host = Part(stacked([batch] * how.length, how.length), how.length) if how.is_looped else Part(batch)
    steps = how.length * repeats

    def timed(part: Part) -> float:
        begin = time.perf_counter()
        for _ in range(repeats):
            logs = session.train([part])
        jax.block_until_ready(logs)
        return (time.perf_counter() - begin) / steps

    first = timed(on_host)
    number = _number_of_steps(num_steps, timed(on_host) * steps)
    if session.steps.eager:
        device = _typical(timed(on_host) for _ in range(number))
        return _StepTimes(0.0, 0.0, device, 0.0)
    twin = hollow_dispatch(session.dispatch, session.layout)
    on_device = Part(jax.device_put(session.put("fit", on_host)), on_host.count)
    with session.running(twin):
        timed(on_host)  # compiles
        timed(on_device)
    whole, handed, resident = [], [], []
    for _ in range(number):  # in turn, so that what disturbs one disturbs all
        whole.append(timed(on_host))
        with session.running(twin):
            handed.append(timed(on_host))
            resident.append(timed(on_device))
    dispatch = _typical(resident)
    transfer = max(0.0, _typical(handed) - dispatch)
    device = max(0.0, _typical(whole) - dispatch - transfer)
    return _StepTimes(transfer, dispatch, device, max(0.0, (first - _typical(whole)) * steps))


def _typical(times: Iterable[float]) -> float:
    """Returns the lower quartile: what disturbs a step can only make it longer."""
    ordered = sorted(times)
    return ordered[(len(ordered) - 1) // 4]


def _number_of_steps(num_steps: int | None, seconds: float) -> int:
    return num_steps or min(_MOST, max(_FEWEST, round(_SECONDS / max(seconds, 1e-6))))


# -- afterwards all is as before


@contextmanager
def _unchanged(model: Any, compiled: Any) -> Iterator[None]:
    """Puts back what a fit leaves on the model beside its arrays."""
    run, steps = model._run, compiled.steps
    history, run.stop_training, was_stopped = run.history, False, run.stop_training
    try:
        yield
    finally:
        run.history, run.stop_training, compiled.steps = history, was_stopped, steps


@contextmanager
def _restored(session: Session) -> Iterator[None]:
    """Puts back the train state."""
    snapshot = session.snapshot()
    try:
        yield
    finally:
        session.restore(snapshot)


@contextmanager
def _metrics_kept(steps: CompiledSteps) -> Iterator[None]:
    """Puts back what metrics hold of the last fit or evaluation."""
    metrics = steps.objective.scores.accumulators.values()
    held = [(variable, variable.get_raw_value()) for metric in metrics for variable in metric.variables]
    try:
        yield
    finally:
        for variable, value in held:
            variable.set_raw_value(value)
