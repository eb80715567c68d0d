"""`fit` of easyflax, with its settings left alone and its progress bar drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from contenders.layered import make_model
from contenders.problems import Problem
from contenders.screen import on_terminal

import easyflax as ef

NAME = "easyflax fit"


def compiled(problem: Problem, **options: Any) -> ef.Model:
    """Returns the model, compiled with Adam and accuracy."""
    model = make_model(ef, problem)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def trainer(problem: Problem, *, shuffle: bool = True, callbacks: Sequence[Any] = ()) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    model = compiled(problem)

    def epoch() -> float:
        with on_terminal():
            history = model.fit(
                problem.x,
                problem.y,
                batch_size=problem.batch_size,
                verbose=1,
                shuffle=shuffle,
                callbacks=list(callbacks),
            )
        return history.history["loss"][-1]

    return epoch
