"""The mean of the weights after the last epochs, trained at a rate of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import jax

from easyflax.callbacks.save_points import check_count
from easyflax.callbacks.weight_swap import set_params
from easyflax.errors import unknown_name_message
from easyflax.models.batch_statistics import recompute_batch_statistics
from easyflax.train.callback import Callback
from easyflax.train.plan import Plan

__all__ = ["StochasticWeightAveraging"]

_ANNEALING = {"cos": lambda done: (1 - math.cos(math.pi * done)) / 2, "linear": lambda done: done}


class StochasticWeightAveraging(Callback):
    """Ends `fit` with the mean of the weights after each of the last epochs.

    From the first of these epochs on, the learning rate goes from what it is to `swa_lrs` and stays there.
    After the last one, the weights are set to their mean, and one pass over the training data computes the
    statistics of batch normalization for them.

    Args:
        swa_lrs: the learning rate to end at.
        swa_epoch_start: the first epoch after which weights count: its number from 1, or as a share of
            `epochs`, from 0 to 1.
        annealing_epochs: epochs that the learning rate takes to get there; 0 sets it at once.
        annealing_strategy: `"cos"` or `"linear"`.

    Attributes:
        average: the mean so far, from path to array; None before the first of these epochs is over.
        count: of how many epochs.

    Raises:
        ValueError: an argument is out of range; in `fit`, the optimizer has no learning rate that can be set.
        TypeError: in `fit`, the learning rate follows a schedule.

    Source: Izmailov et al. 2018, https://arxiv.org/abs/1803.05407
    """

    def __init__(
        self,
        swa_lrs: float,
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: str = "cos",
    ):
        super().__init__()
        owner = type(self).__name__
        if not _is_number(swa_lrs) or swa_lrs <= 0:
            raise ValueError(
                f"{owner}: swa_lrs is {swa_lrs!r}, expected a learning rate above 0. Pass for example 0.05."
            )
        is_share = isinstance(swa_epoch_start, float) and 0 <= swa_epoch_start <= 1
        is_epoch = type(swa_epoch_start) is int and swa_epoch_start >= 1
        if not is_share and not is_epoch:
            raise ValueError(
                f"{owner}: swa_epoch_start is {swa_epoch_start!r}, expected the number of an epoch, from 1, "
                "or a share from 0.0 to 1.0. Pass for example 0.8."
            )
        if annealing_epochs != 0:
            check_count(owner, "annealing_epochs", annealing_epochs, "a number of epochs, or 0")
        if annealing_strategy not in _ANNEALING:
            message = unknown_name_message("annealing_strategy", annealing_strategy, _ANNEALING)
            raise ValueError(f"{owner}: {message}")
        self.swa_lrs = float(swa_lrs)
        self.swa_epoch_start = swa_epoch_start
        self.annealing_epochs = annealing_epochs
        self.annealing_strategy = annealing_strategy
        self._start_anew()

    def _start_anew(self) -> None:
        self.average: dict[str, Any] | None = None
        self.count = 0
        self._first_rate: float | None = None

    def configure(self, plan: Plan) -> Plan:
        """Notes the training data and when to begin."""
        start = self.swa_epoch_start
        self._source, self._steps = plan.source, plan.steps_per_epoch
        self._first_epoch = max(0, (start if isinstance(start, int) else int(start * plan.epochs)) - 1)
        self._last_epoch = plan.epochs - 1
        return plan

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._start_anew()
        optimizer = self.model.optimizer
        optimizer.learning_rate = optimizer.learning_rate  # raises now if it cannot be set

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        if epoch < self._first_epoch:
            return
        if self._first_rate is None:
            self._first_rate = float(self.model.optimizer.learning_rate)
        self.model.optimizer.learning_rate = self._rate(epoch - self._first_epoch)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        if epoch < self._first_epoch:
            return
        params = self.model.get_state(weights_only=True)["params"]
        self.count += 1
        if self.average is None:
            self.average = params
        else:
            self.average = jax.tree.map(
                lambda mean, new: (mean + (new - mean) / self.count).astype(mean.dtype), self.average, params
            )

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        if self.average is None:
            return
        set_params(self.model, self.average)
        with closing(self._source.epoch(self._last_epoch + 1, self._steps)) as batches:
            recompute_batch_statistics(self.model, batches)

    def state_dict(self) -> dict[str, Any]:
        """Returns the mean, of how many epochs it is, and the rate that training came with."""
        return {"average": self.average, "count": self.count, "first_rate": self._first_rate}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets what `state_dict` returned."""
        self.average, self.count, self._first_rate = state["average"], state["count"], state["first_rate"]

    def _rate(self, epochs: int) -> float:
        """Returns the learning rate after so many epochs of it."""
        assert self._first_rate is not None  # set at the first of them
        done = min(1.0, epochs / self.annealing_epochs) if self.annealing_epochs else 1.0
        share = _ANNEALING[self.annealing_strategy](done)
        return share * self.swa_lrs + (1 - share) * self._first_rate


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
