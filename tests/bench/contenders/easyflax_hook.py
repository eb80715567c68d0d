"""`fit` of easyflax with a callback that is called after each step, and ignores its logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contenders import easyflax_fit
from contenders.problems import Problem

from easyflax.callbacks import Callback

NAME = "easyflax fit, on_train_batch_end"


class Ignores(Callback):
    """Is called after each step."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Does nothing."""


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    return easyflax_fit.trainer(problem, shuffle=shuffle, callbacks=[Ignores()])
