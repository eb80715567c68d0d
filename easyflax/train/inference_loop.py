"""The loops of evaluation and prediction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.data import Source, batch_rows, pad_batch
from easyflax.train.callback_list import CallbackList
from easyflax.train.compiled_steps import CompiledSteps
from easyflax.train.feed import Part, feed_of, stacked
from easyflax.train.grouping import Grouping, grouping
from easyflax.train.in_flight import InFlight
from easyflax.train.inference import InferenceSteps
from easyflax.train.interrupts import Interrupts
from easyflax.train.logs import BatchLogs, in_keras_order
from easyflax.train.packing import Packed
from easyflax.train.session import Live

__all__ = ["padded_rows", "run_evaluation", "run_prediction"]


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
    runner = _Runner("evaluate", live, source, steps.evaluate, pads=steps.objective.row_wise)
    how = runner.grouping("test", callbacks, num_steps, steps.steps_per_execution, metrics)
    for parts in runner.groups(how, callbacks, num_steps):
        callbacks.on_test_batch_begin(done)
        for part in parts:
            for given in runner.dispatches(part):
                metrics, packed = runner.run(given, metrics)
                in_flight.add(packed)
        done += sum(map(len, parts))
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
    predict: InferenceSteps,
    callbacks: CallbackList,
    interrupts: Interrupts,
    *,
    pads: bool,
    steps_per_execution: int | None = None,
) -> Any:
    """Returns the outputs for all rows of `source`, in order.

    They are NumPy arrays in the nesting that the model returns.

    Args:
        live: holds the arrays of the model; asked before each step, since hooks may change weights.
        source: the batches.
        num_steps: how many of them, None for all.
        predict: the step.
        callbacks: whose predict hooks are called.
        interrupts: asked after each step.
        pads: whether the last batch may be filled up to the shape of the others.
        steps_per_execution: batches for which the hooks are called once; None lets the step decide.
    """
    callbacks.on_predict_begin()
    is_heard = steps_per_execution is not None or callbacks.need_each("predict")
    collected: list[Any] = []
    running: list[_Outputs] = []  # the newest steps compute while those before them are copied to the host
    done = 0
    runner = _Runner("predict", live, source, predict, pads=pads)
    how = runner.grouping("predict", callbacks, num_steps, steps_per_execution, None)
    for parts in runner.groups(how, callbacks, num_steps):
        callbacks.on_predict_batch_begin(done)
        found: list[_Outputs] = []
        for part in parts:
            for given in runner.dispatches(part):
                found.append(_Outputs(runner.run(given, None)[1], given.count, batch_rows(part.at(0))))
        collected += [outputs.fetch() for outputs in running]
        running = found
        done += sum(map(len, parts))
        logs = {"outputs": _joined([outputs.on_device() for outputs in found])} if is_heard else None
        callbacks.on_predict_batch_end(done - 1, logs)
        interrupts.check()
    if not done:
        raise ValueError("predict: the data gave no batch, expected at least one. Check how they are made.")
    collected += [outputs.fetch() for outputs in running]
    callbacks.on_predict_end()
    return jax.tree.map(lambda *parts: np.concatenate(parts), *collected)


def padded_rows(source: Source, num_devices: int) -> int:
    """Returns how many rows every batch of an evaluation has: a multiple of the number of devices."""
    rows = source.batch_size if source.num_rows is None else min(source.batch_size, source.num_rows)
    return -(-rows // num_devices) * num_devices


class _Runner:
    """Runs steps on the batches of one pass.

    Args:
        name: "evaluate" or "predict".
        live: holds the arrays of the model.
        source: the batches.
        steps: what to run.
        pads: whether all batches are filled up to the same number of rows.
    """

    def __init__(self, name: str, live: Live, source: Source, steps: InferenceSteps, *, pads: bool):
        self._name = name
        self._live = live
        self._source = source
        self._steps = steps
        self._rows = padded_rows(source, live.layout.num_devices) if pads else None
        self._how = Grouping(name, 1, is_fixed=False, is_looped=False)

    def grouping(
        self, kind: str, callbacks: CallbackList, num_steps: int | None, asked: int | None, carry: Any
    ) -> Grouping:
        """Returns how the batches are grouped; arguments as of `grouping`, and what is carried on."""

        def together() -> int:
            batch = self._source.first_batch()
            padded = batch if self._rows is None else pad_batch(batch, self._rows)
            return self._steps.steps_together(*self._live.arrays(), carry, padded)

        num_batches = self._source.num_batches if num_steps is None else num_steps
        return grouping(kind, callbacks, num_batches, asked, together)

    def groups(self, how: Grouping, callbacks: CallbackList, num_steps: int | None) -> Iterator[list[Part]]:
        """Yields the groups of batches of the pass."""
        self._how, done = how, 0
        with closing(feed_of(self._source, 0, num_steps, how)) as feed:
            while parts := feed.next(how.most(done, callbacks)):
                yield parts
                done += sum(map(len, parts))

    def dispatches(self, part: Part) -> Iterator[Part]:
        """Yields what goes to the device, filled up: the part itself, or its batches one by one."""
        part = part if self._rows is None else self._filled_up(part, self._rows)
        if not part.count or self._steps.takes(part.count, self._how.length):
            yield part
        else:
            yield from (Part(part.at(index)) for index in range(part.count))

    def run(self, part: Part, carry: Any) -> tuple[Any, Any]:
        """Runs one dispatch; returns what is carried on, and the result or, stacked, the results."""
        arrays = *self._live.arrays(), carry, self._live.put(self._name, part)
        if part.count:
            changed, carry, result = self._steps.many(*arrays, np.int32(part.count))
        else:
            changed, carry, result = self._steps.one(*arrays)
        self._live.change(changed)
        return carry, result

    def _filled_up(self, part: Part, rows: int) -> Part:
        """Returns the part with batches of `rows` rows, and a mask of those that are real."""
        if not part.count:
            batch = pad_batch(part.batches, rows)
            return Part(stacked([batch], self._how.length), 1) if self._how.is_looped else Part(batch)
        real = batch_rows(part.at(0))
        batches = part.batches
        if real < rows:
            index = np.minimum(np.arange(rows), real - 1)
            batches = jax.tree.map(lambda array: array[:, index], batches)
        mask = np.broadcast_to(np.arange(rows) < real, (self._how.length, rows))
        return Part(batches._replace(mask=mask), part.count)


class _Outputs(NamedTuple):
    """The outputs of a dispatch, with those of rows and batches that were filled in.

    Attributes:
        arrays: of a batch; or of several, stacked.
        count: how many, 0 for a batch by itself.
        rows: of a batch, the real ones.
    """

    arrays: Any
    count: int
    rows: int

    def fetch(self) -> Any:
        """Returns the outputs of all real rows, on the host; waits for them."""
        return jax.tree.map(self._real, jax.device_get(self.arrays))

    def on_device(self) -> Any:
        """Returns the outputs of all real rows, without waiting."""
        return jax.tree.map(self._real, self.arrays)

    def _real(self, array: Any) -> Any:
        if not self.count:
            return array if array.shape[0] == self.rows else array[: self.rows]
        real = array[: self.count, : self.rows]
        return real.reshape(-1, *real.shape[2:])


def _joined(outputs: list[Any]) -> Any:
    """Returns the outputs of several dispatches one after the other."""
    if len(outputs) == 1:
        return outputs[0]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs)
