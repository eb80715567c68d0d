"""The most memory that a process holds which trains, next to one of raw JAX.

Run: `python tests/bench/bench_memory.py [--quick]`. A small model over a large array, a large model over
little data, and a process that hardly does anything, whose figure is what importing and compiling take.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from processes import BASELINE, OURS, installed, run_child
from report import Goal, table

# Model, steps and rows of a step.
CASES = {
    "one step, 64-64-10": ("64,64", 1, 32),
    "64-64-10 over an array of 500 MiB": ("64,64", 2000, 1024),
    "36 million weights, 144 MB": ("64,3456,3456,3456,3456", 16, 32),
}
QUICK = {"one step, 64-64-10": ("64,64", 1, 32)}


def measure(title: str, model: str, steps: int, batch_size: int, rounds: int) -> str:
    """Returns the table of a case."""
    found = installed()
    peaks: dict[str, list[float]] = {name: [] for name in found.values()}
    for _ in range(rounds):
        for file, name in found.items():
            peaks[name].append(run_child(file, model, steps, batch_size))
    goals = [Goal(OURS, "at most", 1.1, BASELINE)]
    return table(peaks, BASELINE, f"peak memory, {title}", unit="MiB", ratio="share", goals=goals)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it runs")
    quick = parser.parse_args().quick
    for title, case in (QUICK if quick else CASES).items():
        print(measure(title, *case, 1 if quick else 5), flush=True, end="\n\n")
