"""Who holds the arrays of a model while it trains, is evaluated or predicts.

`Session` is the time of a fit: the train state on the devices, and the user's module lent to it. `Resting` is
for evaluation and prediction outside of a fit, where the user's module keeps its arrays. Both give the arrays
that are current, and take those that a step changed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.data import Batch
from easyflax.distribution import DataParallel
from easyflax.errors import unknown_name_message
from easyflax.train.accumulation import PENDING, Group
from easyflax.train.additions import StepShape
from easyflax.train.ahead import Ahead, counted_groups
from easyflax.train.batch_shapes import BatchShapes
from easyflax.train.binding import Arrays, Binding, Loan
from easyflax.train.compiled_steps import CompiledSteps
from easyflax.train.dispatch import Dispatch, PackedState, is_small
from easyflax.train.feed import Part
from easyflax.train.in_flight import InFlight
from easyflax.train.packing import Packed
from easyflax.train.state import TrainState, counters_on_host

if TYPE_CHECKING:  # it holds a session
    from easyflax.train.course import Course

__all__ = ["Live", "Resting", "Session", "Snapshot"]


class Live(Protocol):
    """Holds the arrays of a model.

    Attributes:
        layout: the devices.
        shapes: of the batches so far.
    """

    layout: DataParallel
    shapes: BatchShapes

    def arrays(self) -> tuple[Arrays, Arrays]:
        """Returns the current params and other variables, on the devices."""
        ...

    def change(self, changed: Arrays) -> None:
        """Replaces some of the other variables."""
        ...

    def put(self, step: str, part: Part) -> Batch:
        """Puts a batch, or several that are stacked, on the devices for `"evaluate"` or `"predict"`."""
        ...


class Resting:
    """The arrays of a model that is not in training.

    Args:
        binding: the model.
        layout: the devices.

    Attributes:
        shapes: of the batches.
    """

    def __init__(self, binding: Binding, layout: DataParallel):
        self.layout = layout
        self.shapes = BatchShapes()
        self._binding = binding
        self._changed: Arrays = {}

    @functools.cached_property
    def _placed(self) -> tuple[Arrays, Arrays]:
        return self.layout.put_state(self._binding.arrays())  # asked for when the first hook has been called

    def arrays(self) -> tuple[Arrays, Arrays]:
        """Returns the current params and other variables, on the devices."""
        return self._placed

    def change(self, changed: Arrays) -> None:
        """Replaces some of the other variables; the user's own get them when all is done."""
        if changed:
            self._changed.update(changed)
            params, other = self._placed
            self._placed = params, {**other, **changed}

    def put(self, step: str, part: Part) -> Batch:
        """Puts a batch, or several that are stacked, on the devices for `"evaluate"` or `"predict"`."""
        return _put(self, step, part)

    def close(self) -> None:
        """Gives the user's variables what was changed."""
        self._binding.set_values(self.layout.bring_home(self._changed))


class Snapshot(NamedTuple):
    """A moment of a fit, see `Session`."""

    state: TrainState
    steps_done: int
    updates_done: int


class Session:
    """The time of a fit, from the first step to `close`.

    Args:
        binding: the module; its arrays are copied into the train state, its variables lent from now on.
        steps: what to run.
        shape: what callbacks made of the training step.
        opt_state: on the devices; donated, so the caller must not use it again.
        layout: the devices, and what lies where.
        step: training steps done so far.
        updates: of the parameters so far.

    Attributes:
        steps_done: as in `state.counters`, known without asking the device.
        updates_done: updates of the parameters; fewer where several batches make one.
        steps: what runs.
        dispatch: what takes the steps to the devices.
        shapes: of the batches.
        is_looked_at: whether hooks of batches look at the state, so that steps have to go one by one.
        course: where the fit is; set by it.
    """

    course: Course

    def __init__(
        self,
        binding: Binding,
        steps: CompiledSteps,
        shape: StepShape,
        opt_state: Any,
        layout: DataParallel,
        step: int,
        updates: int,
    ):
        params, other = _owned(binding.arrays(), layout)
        counters = counters_on_host(step)
        self._training = steps.training(shape)
        additions = layout.copy_to_devices(self._training.start(params)) if shape != StepShape() else {}
        self._packed: PackedState | None = None  # the newest state, where it has travelled since it was set
        self._state: TrainState | None = TrainState(
            params, other, opt_state, steps.fresh_metrics(), counters, additions
        )
        self.dispatch: Dispatch = self._training.dispatch(self._state)
        self._group = Group()
        self.steps_done = step
        self.updates_done = updates
        self.binding = binding
        self.layout = layout
        self.steps = steps
        self.shapes = BatchShapes(is_told=not steps.eager)
        self._in_flight = InFlight(layout)
        self._ahead: Ahead | None = None
        self.is_looked_at = False
        self._loan = Loan(binding, layout, self._live)
        self._loan.lend()

    @property
    def state(self) -> TrainState:
        """The train state after the newest step; its arrays die with the next one."""
        self._settle()
        state = self._state
        if state is None:
            assert self._packed is not None  # one of the two is there
            state = self._state = self.dispatch.form.unpack_on_host(self._packed, self.layout)
        return state

    @state.setter
    def state(self, state: TrainState) -> None:
        self._settle()
        self._state, self._packed = state, None

    def steps_together(self, batch: Batch) -> int:
        """Returns how many steps on batches like this one should be one dispatch."""
        return self._training.steps_together(self.state, batch)

    def begin_epoch(self, batches_an_update: int = 1, num_batches: int | None = None) -> None:
        """Empties the accumulators.

        Args:
            batches_an_update: how many batches make an update.
            num_batches: of the epoch, None if nobody knows.
        """
        changed, metrics = self.steps.reset(*self.arrays())
        self.change(changed)
        self.state = replace(self.state, metrics=metrics)
        self._group = Group(batches_an_update, num_batches)

    def end_epoch(self) -> None:
        """Applies the gradients of a group of batches that the end of the epoch left incomplete."""
        if self.dispatch.apply is not None and self._group.is_open:
            self.arrays()
            self._go_on_with(self.dispatch.apply(self._pack()))
            self.updates_done += 1
            self._group.close()

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

    def train(self, parts: Sequence[Part]) -> tuple[Packed, int | None]:
        """Does a step with each batch, and waits for none.

        Returns:
            packed logs of the last one, or of several, and which of them are those of the last one.
        """
        logs: tuple[Packed, int | None] = {}, None
        self._borrow()
        for part in parts:
            logs = self._train_part(part)
        self._lend_again()
        return logs

    def train_one(self, part: Part, index: int) -> tuple[Packed, int | None]:
        """Does a step with one of the batches of `part`, which come in order; the device may be ahead.

        Returns:
            packed logs, as `train` returns them.
        """
        if part.count <= 1 or self.is_looked_at or self.binding.mirrors:
            alone = Part(jax.tree.map(lambda array: array[index : index + 1], part.batches), 1)
            return self.train([alone if part.count else part])
        if self._ahead is None:
            self._borrow()
            ahead = self._go_ahead(part)
            self._lend_again()
            self._ahead = ahead
        ahead = self._ahead
        ahead.done += 1
        self._count(ahead, 1)
        if ahead.is_over:
            self._ahead = None
        return ahead.logs, index

    def _go_ahead(self, part: Part) -> Ahead:
        """Does a step with each batch of `part`, of which the host knows nothing yet."""
        before = self.layout.copy_to_devices(self._pack())
        are_last, groups = counted_groups(self._group, part.count)
        placed, flags = self.put("fit", part), _padded(are_last, part)
        packed, logs = self.dispatch.many(self._pack(), placed, np.int32(part.count), flags)
        self._go_on_with(packed)
        self._in_flight.add(logs)
        return Ahead(part, before, placed, flags, groups, logs)

    def _count(self, ahead: Ahead, steps: int) -> None:
        first = ahead.done - steps
        self._group = ahead.groups[ahead.done - 1]
        self.steps_done += steps
        is_update = ahead.flags[first : ahead.done]
        self.updates_done += steps if self.dispatch.apply is None else int(sum(is_update))

    def _settle(self) -> None:
        """Goes back to the state after the last step that the host knows of, where the device is ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        self.is_looked_at = True
        packed = ahead.before
        if ahead.done:
            packed, _ = self.dispatch.many(packed, ahead.placed, np.int32(ahead.done), ahead.flags)
        self._go_on_with(packed)

    def _borrow(self) -> None:
        """Has the variables of the user's module lent, and takes over what was set in them."""
        self.binding.pull()
        if not self._loan.is_out:
            self._take_back()

    def _lend_again(self) -> None:
        """Lends the variables that a step looked at while it was traced."""
        if not self._loan.is_out:
            self._loan.lend()

    @contextmanager
    def running(self, dispatch: Dispatch) -> Iterator[None]:
        """Has other steps run in the block, on the same state."""
        own, self.dispatch = self.dispatch, dispatch
        try:
            yield
        finally:
            self.dispatch = own

    def _train_part(self, part: Part) -> tuple[Packed, int | None]:
        are_last, logs, index = [self._group.add() for _ in range(len(part))], {}, None
        length = jax.tree.leaves(part.batches)[0].shape[0]
        if part.count and self.dispatch.takes(part.count, length):
            batches = self.put("fit", part)
            flags = _padded(are_last, part)
            packed, logs = self.dispatch.many(self._pack(), batches, np.int32(part.count), flags)
            self._go_on_with(packed)
            self._in_flight.add(logs)
            index = part.count - 1
        else:
            for number, is_last in enumerate(are_last):
                packed, logs = self.dispatch.step(self._pack(), self.put("fit", Part(part.at(number))))
                self._go_on_with(packed)
                if is_last and self.dispatch.apply is not None:
                    self._go_on_with(self.dispatch.apply(packed))
                self._in_flight.add(logs)
        self.steps_done += len(part)
        self.updates_done += len(part) if self.dispatch.apply is None else sum(are_last)
        return logs, index

    def _pack(self) -> PackedState:
        """Returns the state for a step, which deletes it."""
        self._settle()
        if self._packed is None:
            self._packed = self.dispatch.form.pack_on_host(self.state, self.layout)
        return self._packed

    def _go_on_with(self, packed: PackedState) -> None:
        """Takes the state that a step returned."""
        self._packed, self._state = packed, None

    def put(self, step: str, part: Part) -> Batch:
        """Puts a batch, or several that are stacked, on the devices for a step."""
        return _put(self, step, part)

    def arrays(self) -> tuple[Arrays, Arrays]:
        """Returns the live params and other variables, on the devices; the next step deletes them."""
        self._borrow()
        return self.state.params, self.state.other

    def change(self, changed: Arrays) -> None:
        """Replaces some of the other variables."""
        if changed:
            self.state = replace(self.state, other={**self.state.other, **changed})

    def set_opt_state(self, opt_state: Any) -> None:
        """Replaces the optimizer state, from the next step on."""
        self.state = replace(self.state, opt_state=opt_state)

    def set_params(self, params: Arrays) -> None:
        """Replaces the trained parameters, from the next step on."""
        self.arrays()
        self.state = replace(self.state, params=params)

    def addition_state(self, name: str) -> Any:
        """Returns the state of an addition to the step, on the devices; the next step deletes it."""
        return self.state.additions[_known(name, self.state.additions)]

    def set_addition_state(self, name: str, state: Any) -> None:
        """Replaces the state of an addition by copies of the arrays of `state`, from the next step on."""
        old = self.addition_state(name)
        shapes, expected = (jax.tree.map(jnp.shape, tree) for tree in (state, old))
        if shapes != expected:
            raise ValueError(
                f"set_addition_state: the state for {name!r} has shapes {shapes}, expected {expected}. Pass "
                "what addition_state returned for this model."
            )
        additions = {**self.state.additions, name: self.layout.copy_to_devices(state)}
        self.state = replace(self.state, additions=additions)
        if name == PENDING:
            self._group.waiting = int(state.batches)

    def set_metrics(self, metrics: Packed) -> None:
        """Replaces the accumulators by copies of packed ones."""
        self.state = replace(self.state, metrics=self.layout.copy_to_devices(metrics))

    def snapshot(self) -> Snapshot:
        """Returns copies of all that steps change, between two groups of batches."""
        self.arrays()
        return Snapshot(self.layout.copy_to_devices(self.state), self.steps_done, self.updates_done)

    def restore(self, snapshot: Snapshot) -> None:
        """Puts back what `snapshot` returned, which the next step deletes."""
        self.arrays()
        self.state, self.steps_done, self.updates_done = snapshot
        self._group.close()

    def set_step(self, step: int) -> None:
        """Sets how many steps have been done."""
        counters = counters_on_host(step)
        self.state, self.steps_done = replace(self.state, counters=counters), step

    def close(self) -> Any:
        """Gives the arrays back to the module and returns the optimizer state."""
        self._loan.close()
        self.steps.objective.scores.store(self.layout.bring_home(self.state.metrics))
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


def _owned(arrays: Any, layout: DataParallel) -> Any:
    """Returns arrays of the user's, copied where steps would delete them: the small ones travel as others."""
    leaves, structure = jax.tree.flatten(layout.put_state(arrays))
    large = [number for number, leaf in enumerate(leaves) if not is_small(leaf)]
    copies = layout.copy_to_devices([leaves[number] for number in large]) if large else []
    for number, copy in zip(large, copies, strict=True):
        leaves[number] = copy
    return structure.unflatten(leaves)


def _padded(are_last: list[bool], part: Part) -> np.ndarray:
    """Returns flags for all batches that there is room for."""
    length = jax.tree.leaves(part.batches)[0].shape[0]
    return np.array(are_last + [False] * (length - len(are_last)))


def _put(live: Live, step: str, part: Part) -> Batch:
    live.shapes.note(step, part.at(0))
    return live.layout.put_batches(part.batches) if part.count else live.layout.put_batch(part.batches)


def _known(name: str, additions: dict[str, Any]) -> str:
    if name not in additions:
        raise KeyError(unknown_name_message("addition to the training step", name, additions))
    return name
