"""Running averages of the weights, which are used in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.callbacks.save_points import check_count
from easyflax.callbacks.weight_swap import EvaluatesAverages, WeightSwap, set_params
from easyflax.train.additions import StepAddition, Update
from easyflax.train.plan import Plan

__all__ = ["ExponentialMovingAverage", "SwapEMAWeights"]


@dataclass(frozen=True)
class _Averaging(StepAddition):
    """Averages the parameters after updates; in float32 at least, since small shares vanish in less."""

    decay: float
    every: int
    start: int

    def init(self, params: Mapping[str, Any]) -> dict[str, Any]:
        average = {name: param.astype(_wide(param.dtype)) for name, param in params.items()}
        return {"average": jax.tree.map(jnp.copy, average), "updates": jnp.zeros((), jnp.int32)}

    def after_update(self, state: dict[str, Any], update: Update) -> dict[str, Any]:
        done = state["updates"] - self.start  # before this one
        is_due = (done <= 0) | (done % self.every == 0)
        share = jnp.where(done <= 0, 0.0, self.decay)  # until then the average is the parameters

        def average(old: jax.Array, new: jax.Array) -> jax.Array:
            kept = share.astype(old.dtype)
            return jnp.where(is_due, kept * old + (1 - kept) * new.astype(old.dtype), old)

        return {
            "average": jax.tree.map(average, state["average"], update.params),
            "updates": state["updates"] + 1,
        }


class ExponentialMovingAverage(EvaluatesAverages):
    """Keeps an exponential moving average of the weights, used for validation, for saving and at the end.

        average = decay * average + (1 - decay) * weights

    It is computed in the compiled step, once for each update of the weights; the first one sets it to the
    weights. Averaged are trained parameters; batch statistics are those of the training. Callbacks that save
    save the average in place of the weights, and a resumed run goes on with both.

    Args:
        decay: share of the old average in the new one.
        update_every_n_steps: updates of the weights for one of the average.
        update_starting_at_step: updates, counted from 0, before which the average is the weights.
        ends_with_average: whether the model has the average as its weights after `fit`; else it is in
            `average`, and `model.evaluate` and `model.predict` use it when they are given this callback.

    Attributes:
        average: from path to array, as it was after the last epoch; None before.

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> from easyflax import callbacks
        >>> average = callbacks.ExponentialMovingAverage(decay=0.99)
        >>> # model.fit(x, y, validation_data=(x_val, y_val), callbacks=[average])

    Source: Polyak and Juditsky 1992, https://doi.org/10.1137/0330046
    """

    _NAME = "exponential_moving_average"

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        ends_with_average: bool = True,
    ):
        super().__init__()
        owner = type(self).__name__
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(
                f"{owner}: decay is {decay!r}, expected a number from 0 to below 1. Pass for example 0.999."
            )
        check_count(owner, "update_every_n_steps", update_every_n_steps, "a number of at least one")
        if update_starting_at_step:
            check_count(
                owner, "update_starting_at_step", update_starting_at_step, "None or a number of steps"
            )
        self.decay = float(decay)
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step
        self.ends_with_average = ends_with_average
        self.average: dict[str, Any] | None = None
        self._is_fitting = False

    def configure(self, plan: Plan) -> Plan:
        """Adds the average to the compiled step."""
        start = self.update_starting_at_step or 0
        return plan.adding(_Averaging(self._NAME, self.decay, self.update_every_n_steps, start))

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._is_fitting, self.average, self._swap = True, None, WeightSwap()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        self.average = self._current()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._is_fitting = False
        if self.ends_with_average and self.average is not None:
            set_params(self.model, self.average)

    def on_exception(self, exception: BaseException) -> None:
        super().on_exception(exception)
        self._is_fitting = False

    def params_to_save(self) -> Mapping[str, Any] | None:
        """Returns the average, to be saved as the weights."""
        return self._current() if self._is_fitting else None

    def state_dict(self) -> dict[str, Any]:
        """Returns the average and how many updates it has seen."""
        return jax.tree.map(jnp.copy, self.model.addition_state(self._NAME))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets what `state_dict` returned."""
        self.model.set_addition_state(self._NAME, dict(state))

    def _put_in(self) -> None:
        average = self._current() if self._is_fitting else self.average
        if average is None:
            raise ValueError(
                f"{type(self).__name__}: there is no average yet, expected one of a fit. Pass this callback "
                "to fit before."
            )
        self._swap.put_in(self.model, partial(set_params, self.model, average))

    def _current(self) -> dict[str, Any]:
        """Returns a copy of the average, in the dtypes of the parameters."""
        average = self.model.addition_state(self._NAME)["average"]
        params = self.model.get_state(weights_only=True)["params"]
        return {name: jnp.array(value, params[name].dtype, copy=True) for name, value in average.items()}


class SwapEMAWeights(EvaluatesAverages):
    """Puts the averages of an optimizer with `use_ema=True` in the place of the weights to evaluate them.

    In evaluations and predictions, those within `fit` too, the averages are in the model; the weights are
    back afterwards.

    Args:
        swap_on_epoch: puts them in at the end of each epoch as well, until the next one begins, so that
            callbacks after this one in the list find them.

    Raises:
        ValueError: the optimizer keeps no averages.
    """

    def __init__(self, swap_on_epoch: bool = False):
        super().__init__()
        self.swap_on_epoch = swap_on_epoch

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._check_optimizer()
        self._swap = WeightSwap()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        self._swap.put_back(self.model)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        if self.swap_on_epoch:
            self._put_in()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._swap.forget()  # `fit` has set the weights to their averages

    def state_dict(self) -> dict[str, Any]:
        """Returns the weights while their averages are in the model."""
        return self._swap.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets what `state_dict` returned."""
        self._swap.load_state_dict(state)

    def _check_optimizer(self) -> None:
        optimizer = self.model.optimizer
        if not optimizer.keeps_average:
            raise ValueError(
                f"SwapEMAWeights: the optimizer {type(optimizer).__name__} keeps no averages, expected one "
                f"with use_ema=True. Compile with {type(optimizer).__name__}(..., use_ema=True)."
            )

    def _put_in(self) -> None:
        self._check_optimizer()
        put = partial(self.model.optimizer.finalize_variable_values, self.model.trainable_variables)
        self._swap.put_in(self.model, put)


def _wide(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)
