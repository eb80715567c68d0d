"""Where a fit is, what it needs beside the model to go on from there, and how another fit does go on.

A fit that goes on within an epoch begins that epoch as usual, then takes up the state of the model, of the
metrics and of the callbacks, leaves out the batches that were done, and computes the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

from easyflax.train.callback import Callback
from easyflax.train.callback_list import CallbackList
from easyflax.train.feed import Feed, feed_of
from easyflax.train.grouping import Grouping
from easyflax.train.packing import Packed, row
from easyflax.train.plan import Plan
from easyflax.train.session import Session

__all__ = ["Course"]


class Course:
    """The course of a running fit.

    Args:
        session: does the steps.
        plan: what the fit is to do.
        callbacks: whose state belongs to that of the run.
        get_state: returns the state of the model, given `weights_only`.
        set_state: sets it.

    Attributes:
        epoch: that runs, or comes next.
        batches: done in it.
        is_resumed: whether it goes on from where another fit was.
    """

    def __init__(
        self,
        session: Session,
        plan: Plan,
        callbacks: CallbackList,
        *,
        get_state: Callable[[bool], dict[str, Any]],
        set_state: Callable[[Mapping[str, Any]], None],
    ):
        self.epoch = plan.initial_epoch
        self.batches = 0
        self._logs: tuple[Packed, int | None] = {}, None
        self.is_resumed = False
        self._session = session
        self._plan = plan
        self._callbacks = callbacks
        self._get_state = get_state
        self._set_state = set_state
        self._waiting: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None

    # -- as the loop goes

    def begin_epoch(self, epoch: int, how: Grouping) -> Feed:
        """Begins an epoch, and returns its batches that are not done, grouped."""
        plan, goes_on = self._plan, self._waiting is not None
        done = self.batches if goes_on else 0
        left = None if plan.known_steps is None else plan.known_steps - done
        self._session.begin_epoch(plan.batches_an_update(epoch), left)
        self.epoch, self.batches = epoch, done
        steps = plan.steps_per_epoch
        if goes_on:
            self._take_up()
        else:
            self._logs = {}, None
        if goes_on and plan.source.state() is not None:  # the source stands where it was left
            done, steps = 0, left if steps is not None else None
        return feed_of(plan.source, epoch, steps, how, done=done)

    def add(self, batches: int, logs: Packed, index: int | None = None) -> None:
        """Notes that steps were done, with the packed logs of the last one, or which of several these are."""
        self.batches += batches
        self._logs = logs, index

    @property
    def logs(self) -> Packed:
        """Packed, of the epoch so far; empty before its first batch."""
        logs, index = self._logs
        return logs if index is None else row(logs, index)

    def end_epoch(self) -> None:
        """Notes that an epoch is over, with its validation."""
        self.epoch, self.batches, self._logs = self.epoch + 1, 0, ({}, None)

    # -- what is saved

    def to_save(self, *, weights_only: bool = False) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Returns the state of the model with averages in place of weights, and that of the run."""
        state, averages = self._get_state(weights_only), self._averages()
        own = {name: state["params"][name] for name in averages}
        state = {**state, "params": {**state["params"], **averages}}
        return state, None if weights_only else {**self._run_state(), "params": own}

    @contextmanager
    def averages_in_place(self) -> Iterator[None]:
        """Has averages in place of weights while the block runs."""
        if not (averages := self._averages()):
            yield
            return
        state = self._get_state(True)
        self._set_state({**state, "params": {**state["params"], **averages}})
        try:
            yield
        finally:
            self._set_state(state)

    def _averages(self) -> dict[str, Any]:
        averages: dict[str, Any] = {}
        for callback in self._callbacks.callbacks:
            averages.update(callback.params_to_save() or {})
        return averages

    def _run_state(self) -> dict[str, Any]:
        state = self._session.state
        kept = {name: callback.state_dict() for name, callback in self._by_name().items()}
        return {
            "epoch": self.epoch,
            "batches": self.batches,
            "data": self._plan.source.state(),
            "metrics": dict(state.metrics) if self.batches else {},
            "logs": dict(self.logs),
            "additions": {name: jax.tree.leaves(added) for name, added in state.additions.items()},
            "callbacks": {name: saved for name, saved in kept.items() if saved},
        }

    # -- how it goes on

    def resume(self, state: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        """Goes on where another fit was; to be called after `on_train_begin`, before the first epoch.

        Args:
            state: of the model.
            run: what `to_save` returned beside it. What it holds of callbacks that are not among those of
                this fit is left alone.
        """
        self.epoch, self.batches, self.is_resumed = run["epoch"], run["batches"], True
        self._waiting = state, run
        if not self.batches:
            self._take_up()

    def _take_up(self) -> None:
        assert self._waiting is not None  # `resume` was called
        (state, run), self._waiting = self._waiting, None
        session, known = self._session, self._by_name()
        self._set_state({**state, "params": {**state["params"], **run["params"]}})
        for name, leaves in run["additions"].items():
            if name in session.state.additions:
                structure = jax.tree.structure(session.addition_state(name))
                session.set_addition_state(name, structure.unflatten(leaves))
        if self.batches:
            session.set_metrics(run["metrics"])
            self._logs = run["logs"], None
        if run["data"] is not None:
            self._plan.source.set_state(run["data"])
        for name, saved in run["callbacks"].items():
            if name in known:
                known[name].load_state_dict(saved)

    def _by_name(self) -> dict[str, Callback]:
        """Returns the callbacks by the names of their classes, numbered where there are several."""
        named: dict[str, Callback] = {}
        for callback in self._callbacks.callbacks:
            name, number = type(callback).__name__, 1
            while (full := name if number == 1 else f"{name} {number}") in named:
                number += 1
            named[full] = callback
        return named
