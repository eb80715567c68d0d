"""Training from large arrays of the host, shuffled, and from a grain dataset over the same arrays.

Run: `python tests/bench/bench_data.py [--quick]`. The perceptron 64-64-10 with batches of 1,024 rows; a call
of a contender is an epoch. The hand-written loop takes the rows of each batch from NumPy arrays and does a
step.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from contenders.loading import load, trainers
from contenders.problems import Problem, make_mlp
from report import Goal, table
from timing import interleaved

BATCH = 1024


def arrays(problem: Problem, rounds: int) -> str:
    """Returns the table of shuffled fits over NumPy arrays."""
    contenders = load(["handwritten", "handwritten_in_order", "scanned_epoch", "keras_fit", "easyflax_fit"])
    times = interleaved(trainers(contenders, problem), rounds=rounds, calls=1, warm_ups=1)
    rows = len(problem.x)
    goals = [Goal("easyflax fit", "at least", 0.95, "hand-written loop")]
    return table(times, "hand-written loop", f"an epoch of {rows:,} x 64 shuffled rows", goals=goals)


def grain_dataset(problem: Problem, rounds: int) -> str:
    """Returns the table of epochs over a grain dataset."""
    contenders = load(["grain_rows", "easyflax_grain", "easyflax_fit"])
    times = interleaved(trainers(contenders, problem), rounds=rounds, calls=1, warm_ups=1)
    rows = len(problem.x)
    goals = [Goal("easyflax fit, grain", "at least", 20, "grain, element by element")]
    return table(times, "grain, element by element", f"an epoch of {rows:,} x 64 rows of grain", goals=goals)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it runs")
    quick = parser.parse_args().quick
    large = make_mlp([64, 64], 20 if quick else 977, batch_size=BATCH)
    print(arrays(large, 2 if quick else 9), flush=True, end="\n\n")
    small = make_mlp([64, 64], 4 if quick else 100, batch_size=BATCH)
    print(grain_dataset(small, 2 if quick else 7))
