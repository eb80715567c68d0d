"""From the start of a process to the end of its first step, and of its first 64 steps.

Run: `python tests/bench/bench_startup.py [--quick]`. The perceptron 64-64-10, with weights that each library
initializes; a call of a contender is a process. Without a cache of compiled programs, with one that is empty,
and with one that an earlier run has filled; the cache is the same for all, and keeps every program.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from processes import BASELINE, OURS, installed, run_child
from report import Goal, table
from timing import interleaved

KEEPS_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def with_empty_cache(file: str, steps: int) -> None:
    """Runs a process with a new folder for compiled programs."""
    with tempfile.TemporaryDirectory() as folder:
        with_cache(file, steps, folder)


def with_cache(file: str, steps: int, folder: str) -> None:
    """Runs a process with a folder for compiled programs that the contender has for itself."""
    run_child(file, "tiny_mlp", steps, JAX_COMPILATION_CACHE_DIR=f"{folder}/{file}", **KEEPS_ALL)


def run_of(cache: str, file: str, steps: int, folder: str) -> Callable[[], object]:
    """Returns what starts a process of a contender."""
    if cache == "no":
        return partial(run_child, file, "tiny_mlp", steps)
    if cache == "an empty":
        return partial(with_empty_cache, file, steps)
    return partial(with_cache, file, steps, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it runs")
    rounds = 1 if parser.parse_args().quick else 7
    found = installed()
    goals = [Goal(OURS, "at most", 1.2, BASELINE)]
    for cache in ("no", "an empty", "a warm"):
        for steps in (1, 64):
            with tempfile.TemporaryDirectory() as folder:
                runs = {name: run_of(cache, file, steps, folder) for file, name in found.items()}
                times = interleaved(runs, rounds=rounds, calls=1, warm_ups=1)
            title = f"start to the end of step {steps}, {cache} cache"
            print(table(times, BASELINE, title, unit="s", ratio="share", goals=goals), flush=True, end="\n\n")
