"""Data parallel training on eight simulated devices, next to a hand-written sharded loop.

Run: `python tests/bench/bench_devices.py [--quick]`. A call of a contender is an epoch. Then a process of its
own does 100 epochs, to see that it is not aborted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
from contenders.loading import check_agreement, load, trainers
from contenders.problems import make_problem
from report import Goal, table
from timing import interleaved

DEVICES = 8
FILES = "sharded_loop", "keras_sharded", "easyflax_fit"
OURS, BASELINE = "easyflax fit", "sharded loop"
# The steps of an epoch, the rounds, and the least speed.
SIZES = {"tiny_mlp": (512, 9, 1.1), "cnn": (32, 7, 0.98)}
EPOCHS = 100


def measure(model: str, quick: bool) -> str:
    """Returns the table of a model."""
    steps, rounds, least = SIZES[model]
    steps, rounds = (8, 2) if quick else (steps, rounds)
    contenders = load(FILES)
    check_agreement(contenders, model)
    times = interleaved(trainers(contenders, make_problem(model, steps)), rounds=rounds, calls=1, warm_ups=2)
    goals = [Goal(OURS, "at least", least, BASELINE)]
    return table(times, BASELINE, f"{model}, {DEVICES} devices, an epoch of {steps} steps", goals=goals)


def long_run(epochs: int, steps: int) -> None:
    """Fits for many epochs."""
    from contenders.easyflax_fit import compiled

    problem = make_problem("tiny_mlp", steps)
    compiled(problem).fit(problem.x, problem.y, epochs=epochs, verbose=0)


def survival(epochs: int, steps: int) -> str:
    """Returns a line that says whether a process survives so many epochs."""
    begun = time.perf_counter()
    command = [sys.executable, __file__, "--long-run", str(epochs), str(steps)]
    result = subprocess.run(command, capture_output=True, text=True)
    took = f"{epochs} epochs of {steps} steps on {DEVICES} devices: {time.perf_counter() - begun:.0f} s"
    if result.returncode == 0:
        return f"{took}, no abort: met"
    return f"{took}, ended by {result.returncode}: **missed**\n{result.stderr[-1000:]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it runs")
    parser.add_argument("--long-run", type=int, nargs=2, metavar=("EPOCHS", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    assert len(jax.devices()) == DEVICES
    if options.long_run:
        long_run(*options.long_run)
    else:
        for model in SIZES:
            print(measure(model, options.quick), flush=True, end="\n\n")
        print(survival(EPOCHS, 2 if options.quick else 128))
