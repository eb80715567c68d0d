"""Learning rates by a schedule, set within the compiled step before each update."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.callbacks.arguments import check_count, check_number
from easyflax.callbacks.rates import RATE_ADDITION, check_one_rate_can_be_set
from easyflax.errors import unknown_name_message
from easyflax.optimizers import set_learning_rate
from easyflax.train.additions import StepAddition, Update
from easyflax.train.callback import Callback
from easyflax.train.plan import Plan

__all__ = ["LearningRateSchedule", "OneCycle", "WarmupCosine"]

Rate = Callable[[jax.Array, jax.Array], Any]


@dataclass(frozen=True)
class SetRate(StepAddition):
    """Sets the learning rate of each update.

    The state has the number of updates so far and how many there will be in all, int32 `()` both: fits of
    another length share the compiled step.

    Attributes:
        rate: `(updates, total)` to the learning rate of the next update.
    """

    rate: Rate

    def init(self, params: Any) -> dict[str, jax.Array]:
        del params
        return _state(0, 0)

    def before_update(self, state: Any, opt_state: Any) -> Any:
        return set_learning_rate(opt_state, self.rate(state["updates"], state["total"]))

    def after_update(self, state: Any, update: Update) -> Any:
        del update
        return {**state, "updates": state["updates"] + 1}


class LearningRateSchedule(Callback):
    """Sets the learning rate of each update by a schedule, within the compiled step.

    The optimizer is compiled with a number, which the schedule replaces. Updates are counted from the first
    epoch of all, so a fit with `initial_epoch` goes on where that epoch would have begun; batches whose
    gradients are accumulated make one update together. After the fit the optimizer keeps the rate of the last
    update.

    Args:
        schedule: from the number of updates so far, an int32 scalar, to the learning rate: any optax
            schedule, an object of `ef.optimizers.schedules`, or a function of one's own that JAX can trace.

    Raises:
        TypeError: it is no such function; in `fit`, the optimizer follows a schedule of its own.
        ValueError: in `fit`, another callback sets the learning rate too, the optimizer keeps none in its
            state, or nobody knows how many updates came before `initial_epoch`.

    Examples:
        >>> import numpy as np
        >>> import optax
        >>> from easyflax import layers, models
        >>> model = models.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> halve = LearningRateSchedule(optax.exponential_decay(1.0, transition_steps=1, decay_rate=0.5))
        >>> history = model.fit(np.ones((12, 2)), np.ones(12), batch_size=4, verbose=0, callbacks=[halve])
        >>> float(model.optimizer.learning_rate)  # of the third update
        0.25
    """

    def __init__(self, schedule: Callable[[Any], Any]):
        super().__init__()
        _check_schedule(type(self).__name__, schedule)
        self.schedule = schedule
        self._rate: Rate = _OfUpdates(_hashable(schedule))
        self._start: int | None = None

    def configure(self, plan: Plan) -> Plan:
        if any(one.name == RATE_ADDITION for one in plan.additions):
            raise ValueError(
                f"{type(self).__name__}: another callback sets the learning rate of each update too, "
                "expected one. Leave one out."
            )
        return plan.adding(SetRate(RATE_ADDITION, self._rate))

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        check_one_rate_can_be_set(self)
        plan = _known(self.plan)
        self._start = plan.updates_before(plan.initial_epoch)
        if self._start is not None:
            self._set(self._start, self._total())

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        if self._start is None and not self.model._session.course.is_resumed:
            raise ValueError(
                f"{type(self).__name__}: nobody knows how many updates came before epoch {epoch}, "
                "because the data do not tell their number of batches, expected a known number. "
                "Pass steps_per_epoch to fit."
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of updates so far."""
        return {"updates": int(self.model.addition_state(RATE_ADDITION)["updates"])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on after so many updates as `state_dict` returned."""
        self._start = int(state["updates"])
        self._set(self._start, self._total())

    def _total(self) -> int:
        """Returns the number of updates in all, where the schedule needs it."""
        return 0

    def _set(self, updates: int, total: int) -> None:
        self.model.set_addition_state(RATE_ADDITION, _state(updates, total))


class _OfLength(LearningRateSchedule):
    """The base class of schedules that end with the fit.

    Args:
        rate: of the next update.
        total_steps: the number of updates in all; None takes it from the fit.
    """

    def __init__(self, rate: Rate, total_steps: int | None):
        Callback.__init__(self)
        if total_steps is not None:
            check_count(type(self).__name__, 1, total_steps=total_steps)
        self.total_steps = total_steps
        self._rate = rate
        self._start = None

    def _total(self) -> int:
        plan = _known(self.plan)
        total = plan.updates_before(plan.epochs) if self.total_steps is None else self.total_steps
        if total is None:
            raise ValueError(
                f"{type(self).__name__}: nobody knows how many updates the fit will make, because the data "
                "do not tell their number of batches, expected a known number. Pass total_steps here, or "
                "steps_per_epoch to fit."
            )
        return total


class WarmupCosine(_OfLength):
    """Raises the learning rate straight, then lets it fall along half a cosine, over the whole fit.

    What is said of `LearningRateSchedule` holds here, too. Update `n`, from 0, has the rate
    `start_lr + (max_lr - start_lr) * n / warmup` until the warm-up is over, then
    `end_lr + (max_lr - end_lr) * (1 + cos(pi * (n - warmup) / (total_steps - warmup))) / 2`, and at last
    `end_lr`.

    Args:
        max_lr: the highest rate.
        warmup: updates until it is reached; a float is the share of all updates, less than 1.
        total_steps: updates in all; by default those of the fit, `epochs` times the batches of an epoch,
            fewer where gradients are accumulated.
        start_lr: of the first update, if there is a warm-up.
        end_lr: the rate at the end.

    Raises:
        TypeError: a number is of another type; in `fit`, the optimizer follows a schedule of its own.
        ValueError: a number is out of bounds; in `fit`, see `LearningRateSchedule`, or nobody knows how many
            updates there will be.

    Examples:
        >>> import numpy as np
        >>> from easyflax import callbacks, layers, models
        >>> model = models.Sequential([layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> x, y = np.ones((16, 2)), np.ones(16)
        >>> warm, rates = WarmupCosine(0.1, warmup=2), callbacks.LearningRateMonitor()
        >>> history = model.fit(x, y, 8, epochs=4, verbose=0, callbacks=[warm, rates])
        >>> [round(rate, 4) for rate in history.history["learning_rate"]]  # of updates 1, 3, 5 and 7
        [0.05, 0.0933, 0.05, 0.0067]

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983; Goyal et al. 2017, section 2.2,
    https://arxiv.org/abs/1706.02677
    """

    def __init__(
        self,
        max_lr: float,
        warmup: int | float = 0.1,
        total_steps: int | None = None,
        start_lr: float = 0.0,
        end_lr: float = 0.0,
    ):
        owner = type(self).__name__
        check_number(owner, 0, max_lr=max_lr, start_lr=start_lr, end_lr=end_lr)
        if isinstance(warmup, float):
            check_number(owner, 0, 1, warmup=warmup)
        else:
            check_count(owner, 0, warmup=warmup)
        super().__init__(_WarmupCosine(max_lr, warmup, start_lr, end_lr), total_steps)


class OneCycle(_OfLength):
    """Raises the learning rate to its highest and lets it fall to nearly nothing, once over the whole fit.

    What is said of `LearningRateSchedule` holds here, too. The rates of the updates are those of PyTorch's
    scheduler of this kind, with its arguments: `max_lr / div_factor` for the first, `max_lr` for number
    `pct_start * total_steps - 1`, and for the last one the first rate divided by `final_div_factor`.

    Args:
        max_lr: the highest rate.
        total_steps: updates in all; by default those of the fit, `epochs` times the batches of an epoch,
            fewer where gradients are accumulated.
        pct_start: the share of the updates in which the rate rises.
        anneal_strategy: `"cos"` or `"linear"`.
        div_factor: the highest rate divided by the first one.
        final_div_factor: the first rate divided by the last one.
        three_phase: whether it falls in as many updates as it rose in to the first rate, and from there to
            the last one.

    Raises:
        TypeError: a number is of another type; in `fit`, the optimizer follows a schedule of its own.
        ValueError: a number is out of bounds or the strategy unknown; in `fit`, see `LearningRateSchedule`,
            or nobody knows how many updates there will be.

    Source: Smith and Topin 2018, https://arxiv.org/abs/1708.07120
    """

    def __init__(
        self,
        max_lr: float,
        total_steps: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ):
        owner = type(self).__name__
        check_number(owner, 0, max_lr=max_lr)
        check_number(owner, 0, 0.5 if three_phase else 1, pct_start=pct_start)
        check_number(owner, 1, div_factor=div_factor, final_div_factor=final_div_factor)
        if anneal_strategy not in _STRATEGIES:
            message = unknown_name_message("anneal_strategy", anneal_strategy, _STRATEGIES)
            raise ValueError(f"{owner}: {message}")
        rate = _OneCycle(max_lr, pct_start, anneal_strategy, div_factor, final_div_factor, three_phase)
        super().__init__(rate, total_steps)


# -- rates of an update, known by their values: equal ones share a compiled step


@dataclass(frozen=True)
class _OfUpdates:
    schedule: Callable[[Any], Any]

    def __call__(self, updates: jax.Array, total: jax.Array) -> Any:
        del total
        return self.schedule(updates)


@dataclass(frozen=True)
class _WarmupCosine:
    max_lr: float
    warmup: int | float
    start_lr: float
    end_lr: float

    def __call__(self, updates: jax.Array, total: jax.Array) -> jax.Array:
        done, total = updates.astype(jnp.float32), total.astype(jnp.float32)
        warmup = jnp.round(self.warmup * total) if isinstance(self.warmup, float) else self.warmup
        rise = _between("linear", self.start_lr, self.max_lr, done, 0, warmup)
        return jnp.where(done < warmup, rise, _between("cos", self.max_lr, self.end_lr, done, warmup, total))


@dataclass(frozen=True)
class _OneCycle:
    max_lr: float
    pct_start: float
    anneal_strategy: str
    div_factor: float
    final_div_factor: float
    three_phase: bool

    def __call__(self, updates: jax.Array, total: jax.Array) -> jax.Array:
        done, total = updates.astype(jnp.float32), total.astype(jnp.float32)
        first = self.max_lr / self.div_factor
        last = first / self.final_div_factor
        between = functools.partial(_between, self.anneal_strategy)
        top, end = self.pct_start * total - 1, total - 1
        rise = between(first, self.max_lr, done, 0, top)
        if not self.three_phase:
            return jnp.where(done <= top, rise, between(self.max_lr, last, done, top, end))
        back = 2 * self.pct_start * total - 2
        fall = jnp.where(
            done <= back,
            between(self.max_lr, first, done, top, back),
            between(first, last, done, back, end),
        )
        return jnp.where(done <= top, rise, fall)


_STRATEGIES = {"cos": lambda time: (1 - jnp.cos(jnp.pi * time)) / 2, "linear": lambda time: time}


def _between(strategy: str, first: float, last: float, done: Any, begin: Any, end: Any) -> jax.Array:
    """Returns a value on the way from `first` at `begin` to `last` at `end`."""
    time = jnp.clip((done - begin) / jnp.maximum(end - begin, 1e-6), 0.0, 1.0)
    way = _STRATEGIES[strategy](time)
    return (1 - way) * first + way * last  # exact at both ends


def _known(plan: Plan | None) -> Plan:
    assert plan is not None  # hooks are called after it is made
    return plan


def _state(updates: int, total: int) -> dict[str, jax.Array]:
    return {"updates": jnp.asarray(updates, jnp.int32), "total": jnp.asarray(total, jnp.int32)}


def _hashable(schedule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns the schedule, or something around it that is known by identity."""
    try:
        hash(schedule)
    except TypeError:
        return functools.partial(schedule)
    return schedule


def _check_schedule(owner: str, schedule: Any) -> None:
    advice = "Pass for example optax.cosine_decay_schedule(0.1, decay_steps=1000)."
    if not callable(schedule) or isinstance(schedule, type):
        raise TypeError(
            f"{owner}: schedule is {schedule!r}, expected a function of the number of updates. {advice}"
        )
    try:
        rate = jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception as error:
        raise TypeError(
            f"{owner}: schedule raised {error!r} when it was traced, expected a function of the number of "
            f"updates in terms of jax.numpy. {advice}"
        ) from error
    if getattr(rate, "shape", None) != ():
        raise TypeError(f"{owner}: schedule returns {rate}, expected one number. {advice}")
