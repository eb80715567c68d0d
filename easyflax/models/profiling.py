"""How a training step is timed, part by part, on a model that is as it was afterwards.

The same batch goes through the step over and over. Each time its hollow twin, which is handed the same arrays
and computes nothing, is timed as well, with the batch on the host and on the device: the differences are what
the device computes, and what the transfer takes. Then callbacks and data are added, as a fit of two epochs:
in the first one each step is waited for before the hooks are called, so that what they take is theirs; the
second is timed as a whole.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import jax

from easyflax.data import Batch, Source, batch_rows
from easyflax.models.rehearsal import Rehearsal, TimedCallbacks
from easyflax.models.step_profile import StepProfile
from easyflax.train.callback_list import Callbacks
from easyflax.train.compiled_steps import CompiledSteps
from easyflax.train.hollow import hollow_training
from easyflax.train.interrupts import between_steps
from easyflax.train.measured_peak import MeasuredPeak, measured_peak
from easyflax.train.plan import Plan
from easyflax.train.session import Session
from easyflax.train.step_costs import StepCosts, StepMemory, costs_of, has_loop, memory_of_step

__all__ = ["profile_training"]

_SECONDS = 0.5  # that a series of steps may take, unless the user said how many
_FEWEST, _MOST = 3, 100


def profile_training(model: Any, source: Source, callbacks: Callbacks, num_steps: int | None) -> StepProfile:
    """Returns the profile of a training step; for the arguments see `Trainer.profile`.

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
        data_seconds = _reading_seconds(source, num_steps)
        session_on = compiled.engine.session_on(trained.binding, steps, plan.shape)
        with _metrics_kept(steps), between_steps() as interrupts, session_on as session, _restored(session):
            repeats = 1 if session.training.apply is None else plan.batches_an_update(0)
            times = _step_times(session, batch, num_steps, repeats)
            rehearsal = Rehearsal(model, session, plan, hooks, interrupts)
            fit_seconds = rehearsal.run(batch, _number_of_steps(num_steps, times.total + data_seconds))
    return StepProfile(
        model=model.name,
        rows=batch_rows(batch),
        batch_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(batch)),
        devices=layout.num_devices,
        device_kind=devices[0].device_kind,
        compute_dtype=analysis.dtype,
        is_compiled=not steps.eager,
        data_seconds=data_seconds,
        transfer_seconds=times.transfer,
        dispatch_seconds=times.dispatch,
        device_seconds=times.device,
        callbacks_seconds=sum(spent.step for spent in hooks.times().values()),
        fit_seconds=fit_seconds,
        compile_seconds=analysis.seconds,
        callbacks=hooks.times(),
        steps_per_dispatch=steps.steps_per_execution,
        costs=analysis.costs,
        has_loop=analysis.has_loop,
        memory=analysis.memory,
        peak=analysis.peak,
    )


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


def _reading_seconds(source: Source, num_steps: int | None) -> float:
    """Returns what it takes to read a batch when nothing else is done.

    The first one does not count, if there are more: it was read before, to learn its shape.
    """
    most, times = num_steps or _MOST, [time.perf_counter()]
    with closing(source.epoch(0, most)) as batches:
        for _ in itertools.islice(batches, most):
            times.append(time.perf_counter())
            if num_steps is None and len(times) > _FEWEST and times[-1] - times[0] > _SECONDS:
                break
    times = times[1:] if len(times) > 2 else times
    return (times[-1] - times[0]) / max(len(times) - 1, 1)


@dataclass(frozen=True)
class _StepTimes:
    """Seconds a step."""

    transfer: float
    dispatch: float
    device: float

    @property
    def total(self) -> float:
        return self.transfer + self.dispatch + self.device


def _step_times(session: Session, batch: Batch, num_steps: int | None, repeats: int) -> _StepTimes:
    """Returns the parts of a step, each that of a step which little disturbed.

    Args:
        session: to be restored afterwards.
        batch: goes through each step.
        num_steps: how many; None for as many as take about half a second.
        repeats: batches that make an update.
    """
    session.begin_epoch(repeats)
    together = session.steps.steps_per_execution

    def timed(batch: Batch) -> float:
        batches = [batch] * together
        begin = time.perf_counter()
        for _ in range(repeats):
            logs = session.train(batches)
        jax.block_until_ready(logs)
        return (time.perf_counter() - begin) / (together * repeats)

    if session.steps.eager:
        timed(batch)
        number = _number_of_steps(num_steps, timed(batch))
        return _StepTimes(0.0, 0.0, _typical(timed(batch) for _ in range(number)))
    twin = hollow_training(session.training, session.layout)
    on_device = jax.block_until_ready(jax.device_put(session.layout.put_batch(batch)))
    with session.running(twin):
        timed(batch)  # compiles
        timed(on_device)
    timed(batch)
    number = _number_of_steps(num_steps, timed(batch) * together * repeats)
    whole, handed, resident = [], [], []
    for _ in range(number):  # in turn, so that what disturbs one disturbs all
        whole.append(timed(batch))
        with session.running(twin):
            handed.append(timed(batch))
            resident.append(timed(on_device))
    dispatch = _typical(resident)
    transfer = max(0.0, _typical(handed) - dispatch)
    return _StepTimes(transfer, dispatch, max(0.0, _typical(whole) - dispatch - transfer))


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
