"""`fit` of Keras on JAX, with its settings left alone and its progress bar drawn."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"

from collections.abc import Callable
from typing import Any

import keras
from contenders.layered import make_model
from contenders.problems import Problem
from contenders.screen import on_terminal

NAME = "keras fit"


def compiled(problem: Problem, **options: Any) -> Any:
    """Returns the model, compiled with Adam and accuracy."""
    model = make_model(keras, problem)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], **options)
    return model


def trainer(problem: Problem, *, shuffle: bool = True, **options: Any) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    model = compiled(problem, **options)

    def epoch() -> float:
        with on_terminal():
            history = model.fit(
                problem.x, problem.y, batch_size=problem.batch_size, verbose=1, shuffle=shuffle
            )
        return history.history["loss"][-1]

    return epoch
