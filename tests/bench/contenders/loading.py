"""Finds the contenders that can run here, and sees to it that they compute the same."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType

import numpy as np
from contenders.problems import Problem, make_problem


def load(files: Iterable[str]) -> dict[str, ModuleType]:
    """Returns the modules of these contenders by their names; says which are left out."""
    found = {}
    for file in files:
        try:
            module = importlib.import_module(f"contenders.{file}")
        except ImportError as error:
            print(f"{file} is left out: {error}.\n")
        else:
            found[module.NAME] = module
    return found


def trainers(contenders: Mapping[str, ModuleType], problem: Problem) -> dict[str, Callable[[], float]]:
    """Returns for each contender the function that trains an epoch, by name."""
    return {name: module.trainer(problem) for name, module in contenders.items()}


def check_agreement(contenders: Mapping[str, ModuleType], name: str) -> None:
    """Asserts that contenders with the same initial weights have the same losses over twice four steps.

    PyTorch's have weights of their own. The tolerance allows for Adam's epsilon, which Keras adds elsewhere
    than optax; a step left out would change a loss ten times as much.
    """
    problem = make_problem(name, 4)
    expected = None
    for contender, module in contenders.items():
        if "torch" in contender or "lightning" in contender:
            continue
        epoch = module.trainer(problem, shuffle=False)
        losses = [epoch(), epoch()]
        expected = expected or losses
        np.testing.assert_allclose(losses, expected, rtol=3e-3, err_msg=f"{contender} on {name}")
