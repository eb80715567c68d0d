"""One fit: the train state on the devices, and the user's module lent to it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from easyflax.data import Batch
from easyflax.distribution import DataParallel
from easyflax.train.binding import Arrays, Binding, Loan
from easyflax.train.in_flight import InFlight
from easyflax.train.packing import Packed
from easyflax.train.state import TrainState, start_counters
from easyflax.train.step import Objective, eval_step, train_step


class CompiledSteps:
    """The jitted steps of one objective; each is compiled for every batch shape it meets, and stays so."""

    def __init__(self, objective: Objective, layout: DataParallel):
        self.objective = objective
        self.train = layout.jit(partial(train_step, objective), donate_argnums=(0,))
        self.evaluate = layout.jit(partial(eval_step, objective), donate_argnums=(2,))
        self.fresh_metrics = layout.jit(objective.fresh_metrics)
        self.start_counters = layout.jit(start_counters)


class Session:
    """The time of a fit, from the first step to `close`.

    Args:
        binding: the module; its arrays are copied into the train state, its variables lent from now on.
        steps: what to run.
        opt_state: on the devices; donated, so the caller must not use it again.
        layout: the devices, and what lies where.
        step: training steps done so far.

    Attributes:
        state: the train state after the newest step; its arrays die with the next one.
        steps_done: as in `state.counters`, known without asking the device.
        steps: what runs.
    """

    def __init__(
        self, binding: Binding, steps: CompiledSteps, opt_state: Any, layout: DataParallel, step: int
    ):
        params, other = layout.copy_to_devices(binding.arrays())
        counters = steps.start_counters(np.int32(step))
        self.state = TrainState(params, other, opt_state, steps.fresh_metrics(), counters)
        self.steps_done = step
        self.binding = binding
        self.layout = layout
        self.steps = steps
        self._in_flight = InFlight(layout)
        self._loan = Loan(binding, layout, self._live)
        self._loan.lend()

    def next_epoch(self) -> None:
        """Empties the accumulators, between two epochs.

        Raises:
            ValueError: see `check_unchanged`.
        """
        self.check_unchanged()
        self.state = replace(self.state, metrics=self.steps.fresh_metrics())

    def check_unchanged(self) -> None:
        """Raises if what was compiled is no longer what the module is.

        Raises:
            ValueError: a callback changed the structure of the module, or what is trained.
        """
        self.binding.check_unchanged()

    def show(self) -> None:
        """Gives modules of Flax the present values: nothing tells when somebody looks at those."""
        if self.binding.mirrors and self._loan.is_out:
            self._loan.fetch()

    def train(self, batch: Batch) -> Packed:
        """Does one step; returns, without waiting for it, the packed logs that it leaves on the device."""
        self.binding.pull()
        if not self._loan.is_out:
            self._take_back()
        self.state, logs = self.steps.train(self.state, self.layout.put_batch(batch))
        self.steps_done += 1
        self._in_flight.add(logs)
        return logs

    def arrays(self) -> tuple[Arrays, Arrays]:
        """Returns the live params and other variables, on the devices; the next step deletes them."""
        self.binding.pull()
        if not self._loan.is_out:
            self._take_back()
        return self.state.params, self.state.other

    def set_opt_state(self, opt_state: Any) -> None:
        """Replaces the optimizer state, from the next step on."""
        self.state = replace(self.state, opt_state=opt_state)

    def set_step(self, step: int) -> None:
        """Sets how many steps have been done."""
        counters = self.steps.start_counters(np.int32(step))
        self.state, self.steps_done = replace(self.state, counters=counters), step

    def close(self) -> Any:
        """Gives the arrays back to the module and returns the optimizer state."""
        self._loan.close()
        return self.state.opt_state

    def _live(self) -> Arrays:
        return {**self.state.params, **self.state.other}

    def _take_back(self) -> None:
        """Lends the variables again, and puts what the user changed meanwhile into the state."""
        changed = self.layout.copy_to_devices(self._loan.take_back())
        if changed:
            params = {name: changed.get(name, value) for name, value in self.state.params.items()}
            other = {name: changed.get(name, value) for name, value in self.state.other.items()}
            self.state = replace(self.state, params=params, other=other)
