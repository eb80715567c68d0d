"""Prediction and evaluation over many batches of 32, and calls with one batch, next to hand-written loops.

Run: `python tests/bench/bench_inference.py [--quick]`. Many batches with the progress bar drawn, one batch
without, as in a loop of the user's own; one device, NumPy arrays of the host.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from contenders.calls import Calls
from contenders.loading import load
from contenders.problems import Problem, make_problem
from report import Goal, table
from timing import interleaved

FILES = "calls_handwritten", "calls_keras", "calls_easyflax"
OURS, BASELINE = "easyflax", "hand-written loop"
BATCHES = {"tiny_mlp": 2048, "deep_mlp": 512, "cnn": 128, "transformer": 128}
# At most so many milliseconds, where the hand-written loop took the second figure.
ONE_BATCH = {
    "fit": (0.4, 0.18),
    "train_on_batch": (0.4, 0.18),
    "predict": (0.15, 0.07),
    "evaluate": (0.4, 0.23),
}


def check_same(contenders: Mapping[str, Calls], problem: Problem) -> None:
    """Asserts that all of them, which have the same weights, predict and evaluate alike."""
    rows = problem.x[:64], problem.y[:64]
    expected = contenders[BASELINE]
    for name, calls in contenders.items():
        logits = calls.predict(rows[0])
        np.testing.assert_allclose(logits, expected.predict(rows[0]), rtol=1e-3, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(calls.evaluate(*rows), expected.evaluate(*rows), rtol=1e-3, err_msg=name)


def bound(contenders: Mapping[str, Calls], call: str, *arrays: Any) -> dict[str, Callable[[], Any]]:
    """Returns the call of that name for each contender, on these arrays."""
    arrays = arrays[:1] if call == "predict" else arrays
    return {name: partial(getattr(calls, call), *arrays) for name, calls in contenders.items()}


def many_batches(model: str, quick: bool) -> str:
    """Returns the tables of evaluation and prediction with a model."""
    batches = 16 if quick else BATCHES[model]
    problem = make_problem(model, batches)
    contenders = {name: file.calls(problem, bar=True) for name, file in load(FILES).items()}
    check_same(contenders, problem)
    tables = []
    for call in ("evaluate", "predict"):
        runs = bound(contenders, call, problem.x, problem.y)
        times = interleaved(runs, rounds=3 if quick else 11, calls=1, warm_ups=2)
        goals = [Goal(OURS, "at least", 1.0, BASELINE)]
        title = f"{call}, {model}, {batches} batches"
        tables.append(table(times, BASELINE, title, goals=goals))
    return "\n\n".join(tables)


def one_batch(quick: bool) -> str:
    """Returns the tables of calls with one batch."""
    problem = make_problem("tiny_mlp", 1)
    contenders = {name: file.calls(problem, bar=False) for name, file in load(FILES).items()}
    tables = []
    for call, (most, by_hand) in ONE_BATCH.items():
        runs = bound(contenders, call, problem.x, problem.y)
        times = interleaved(runs, rounds=3 if quick else 30, calls=5 if quick else 50)
        goals = [Goal(OURS, "at most", most), Goal(OURS, "at least", round(by_hand / most, 2), BASELINE)]
        tables.append(table(times, BASELINE, f"{call}, one batch", goals=goals))
    return "\n\n".join(tables)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it runs")
    options = parser.parse_args()
    for model in BATCHES:
        print(many_batches(model, options.quick), flush=True, end="\n\n")
    print(one_batch(options.quick))
