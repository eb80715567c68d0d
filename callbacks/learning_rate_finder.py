"""Finds a learning rate by trying rising ones at the beginning of a fit."""

from __future__ import annotations

import dataclasses
import warnings
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

import numpy as np

from easyflax.callbacks.arguments import check_count, check_number
from easyflax.callbacks.message import say
from easyflax.callbacks.rates import check_one_rate_can_be_set, check_rates_can_be_set
from easyflax.data import Batch, Source
from easyflax.errors import unknown_name_message
from easyflax.train.callback import Callback
from easyflax.train.feed import single
from easyflax.train.logs import BatchLogs
from easyflax.train.plan import Plan
from easyflax.train.session import Session

__all__ = ["LearningRateFinder"]

_SMOOTHING = 0.98  # share of the old value in the running mean of the losses
_MODES = {"exponential": np.geomspace, "linear": np.linspace}


class LearningRateFinder(Callback):
    """Tries rising learning rates before the first epoch of a fit, and suggests the one to train with.

    Each update of the sweep has a larger rate than the one before; the suggestion is the rate at which the
    loss falls fastest. Then everything is as it was: weights, optimizer, random streams, metrics and the
    number of steps; the fit begins with the same batches. The sweep ends early where the loss explodes.

    Args:
        min_lr: the first rate.
        max_lr: the last rate.
        num_training: how many rates are tried.
        mode: `"exponential"`, each rate is so many times the one before, or `"linear"`.
        early_stop_threshold: the sweep ends where the smoothed loss is so many times the smallest so far;
            None never ends it.
        sets_rate: whether the fit trains with the suggestion; else with the rate that the optimizer has.
        ends_fit: whether the fit ends after the sweep, before the first epoch.
        verbose: 1 says what is suggested.

    Attributes:
        results: `"lr"`, the rates that were tried, and `"loss"`, the losses, smoothed; lists of floats.

    Raises:
        TypeError: a number is of another type; in `fit`, the optimizer follows a schedule.
        ValueError: a number is out of bounds or the mode unknown; in `fit`, another callback sets the rate of
            each update, or the optimizer keeps no learning rate in its state.

    Examples:
        >>> from easyflax import layers, models
        >>> model = models.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x = np.linspace(-1.0, 1.0, 32).reshape(8, 4)
        >>> finder = LearningRateFinder(min_lr=1e-4, max_lr=10.0, num_training=30, ends_fit=True)
        >>> history = model.fit(x, x.sum(axis=1), verbose=0, callbacks=[finder])
        >>> model.step, len(finder.results["lr"]) <= 30, 1e-4 < finder.suggestion() < 10.0
        (0, True, True)

    Source: Smith 2017, section 3.3, https://arxiv.org/abs/1506.01186
    """

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        sets_rate: bool = True,
        ends_fit: bool = False,
        verbose: int = 0,
    ):
        super().__init__()
        owner = type(self).__name__
        check_number(owner, float(np.finfo(np.float32).tiny), min_lr=min_lr)
        check_number(owner, min_lr, max_lr=max_lr)
        check_count(owner, 2, num_training=num_training)
        if early_stop_threshold is not None:
            check_number(owner, 1, early_stop_threshold=early_stop_threshold)
        if mode not in _MODES:
            raise ValueError(f"{owner}: {unknown_name_message('mode', mode, _MODES)}")
        self.early_stop_threshold = early_stop_threshold
        self.sets_rate = sets_rate
        self.ends_fit = ends_fit
        self.verbose = verbose
        self.results: dict[str, list[float]] = {"lr": [], "loss": []}
        self._rates = [float(rate) for rate in _MODES[mode](min_lr, max_lr, num_training)]
        self._is_done = False

    # -- in a fit

    def configure(self, plan: Plan) -> Plan:
        source = self._source = ReadAhead(plan.source)
        epochs = plan.initial_epoch if self.ends_fit else plan.epochs
        return dataclasses.replace(plan, source=source, epochs=epochs)  # type: ignore[arg-type]

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        check_rates_can_be_set(self)
        check_one_rate_can_be_set(self)
        self._is_done = False
        if self.ends_fit:  # there is no epoch at the beginning of which to do it
            self._find()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        if not self._is_done and not self.model._session.course.is_resumed:
            self._find()

    def state_dict(self) -> dict[str, Any]:
        """Returns the results, and whether the sweep is done."""
        return {"results": self.results, "is_done": self._is_done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self.results = {name: [float(one) for one in values] for name, values in state["results"].items()}
        self._is_done = bool(state["is_done"])

    # -- what was found

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """Returns the rate at which the loss falls fastest, None if there are fewer than two to compare.

        Args:
            skip_begin: rates to leave out, of the smallest.
            skip_end: rates to leave out, of the largest.
        """
        rates, losses = (np.array(self.results[name]) for name in ("lr", "loss"))
        kept = slice(skip_begin, max(len(losses) - skip_end, 0))
        rates, losses = rates[kept], losses[kept]
        rates, losses = rates[np.isfinite(losses)], losses[np.isfinite(losses)]
        return float(rates[np.argmin(np.gradient(losses))]) if len(losses) > 1 else None

    def plot(self, suggest: bool = True, ax: Any = None) -> Any:
        """Draws the losses over the rates.

        Args:
            suggest: whether the suggestion is marked.
            ax: a `matplotlib.axes.Axes` to draw in; by default that of a new figure.

        Returns:
            the axes.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: there are no results.
        """
        if not self.results["lr"]:
            raise ValueError(
                "LearningRateFinder.plot: there are no results, expected those of a sweep. Plot after "
                "model.fit(..., callbacks=[finder])."
            )
        axes = _new_axes() if ax is None else ax
        axes.plot(self.results["lr"], self.results["loss"])
        axes.set(xlabel="learning rate", ylabel="loss", xscale="log")
        rate = self.suggestion() if suggest else None
        if rate is not None:
            loss = self.results["loss"][self.results["lr"].index(rate)]
            axes.plot([rate], [loss], "o", label=f"suggestion: {rate:.3g}")
            axes.legend()
        return axes

    # -- the sweep

    def _find(self) -> None:
        self.results = {"lr": [], "loss": []}
        self._is_done = True
        session: Session = self.model._session
        before = session.snapshot()
        try:
            self._sweep(session)
        finally:
            session.restore(before)
        self._use(self.suggestion())

    def _use(self, rate: float | None) -> None:
        if rate is not None and self.verbose:
            say(f"LearningRateFinder: the suggested learning rate is {rate:.3g}")
        if rate is not None and self.sets_rate:
            self.model.optimizer.learning_rate = rate
        elif self.sets_rate:
            warnings.warn(
                f"LearningRateFinder: the sweep gave {len(self.results['loss'])} losses, too few to suggest "
                "a learning rate: the optimizer keeps its own. Try more rates (num_training), or less.",
                stacklevel=2,
            )

    def _sweep(self, session: Session) -> None:
        plan, mean, best = self.plan, 0.0, np.inf
        assert plan is not None  # hooks are called after it is made
        together = plan.batches_an_update(plan.initial_epoch)
        wanted = together * len(self._rates)
        batches = self._source.read_ahead(plan.initial_epoch, plan.steps_per_epoch, wanted)
        for number, rate in enumerate(self._rates):
            self.model.optimizer.learning_rate = rate
            places = range(number * together, (number + 1) * together)
            group = [batches[place % len(batches)] for place in places]
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * _loss_of_update(session, group)
            smoothed = mean / (1 - _SMOOTHING ** (number + 1))
            self.results["lr"].append(rate)
            self.results["loss"].append(smoothed)
            best = min(best, smoothed)
            if self.early_stop_threshold is not None and not smoothed <= self.early_stop_threshold * best:
                break


class ReadAhead:
    """A source whose first batches may be read before the epoch that they belong to, which has them again.

    Args:
        source: where they come from.
    """

    def __init__(self, source: Source):
        self._source = source
        self._early: deque[tuple[Batch, Any]] = deque()  # with the place in the data after each
        self._rest: Generator[Batch, None, None] | None = None
        self._place: tuple[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read_ahead(self, epoch: int, steps: int | None, number: int) -> list[Batch]:
        """Returns so many batches of an epoch, or all if there are less.

        Raises:
            ValueError: there is none.
        """
        if self._rest is None:
            self._place = (self._source.state(),)
            self._rest = self._source.epoch(epoch, steps)
        while len(self._early) < number and (batch := next(self._rest, None)) is not None:
            self._early.append((batch, self._source.state()))
        if not self._early:
            raise ValueError(
                "fit: the data gave no batch, expected at least one. Check how they are made; an iterator "
                "that was read before is empty."
            )
        return [batch for batch, _ in self._early]

    def epoch(self, number: int, steps: int | None = None) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch."""
        rest, self._rest = self._rest, None
        if rest is None:
            yield from self._source.epoch(number, steps)
            return
        with closing(rest):
            while self._early:
                batch, place = self._early.popleft()
                self._place = (place,) if self._early else None
                yield batch
            yield from rest

    def state(self) -> Any:
        """Returns the place in the data after the last batch that an epoch gave."""
        return self._source.state() if self._place is None else self._place[0]


def _loss_of_update(session: Session, batches: list[Batch]) -> float:
    """Returns the mean loss of the batches that make an update, after doing it."""
    session.begin_epoch(len(batches))
    *_, (packed, _) = [session.train(single(batch)) for batch in batches]
    logs = BatchLogs(packed, session.steps.log_packing("train"))
    if "loss" not in logs:
        raise ValueError(
            f"LearningRateFinder: train_step logs {', '.join(logs) or 'nothing'}, expected 'loss'. Return it "
            "from train_step."
        )
    return float(logs["loss"])


def _new_axes() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "LearningRateFinder.plot: matplotlib is not installed, expected version 3.8 or later. Install it "
            "with 'pip install easyflax[notebook]' or 'pip install matplotlib'."
        ) from error
    return plt.subplots(layout="constrained")[1]
