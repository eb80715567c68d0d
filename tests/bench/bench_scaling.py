"""What a row costs as data grow, and what a step costs as layers grow, next to the hand-written loop.

Run: `python tests/bench/bench_scaling.py [--quick]`. Rows of 4 features, batches of 1,024: a call of a
contender trains on about a million rows, in as many epochs of one `fit` as that takes, or one epoch of more.
Layers of width 8, batches of 32. Flat and linear means here: within 1.5 times the cost at the smallest size.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from contenders.easyflax_fit import compiled
from contenders.loading import load, trainers
from contenders.problems import Problem, make_mlp
from contenders.screen import on_terminal
from report import Goal, table
from timing import interleaved

FILES = "handwritten", "easyflax_fit"


def cost_of_rows(sizes: Sequence[int], total: int, rounds: int) -> str:
    """Returns the table of costs a row; each figure is divided by the rows that were trained on."""
    runs: dict[str, Callable[[], object]] = {}
    rows: dict[str, int] = {}
    for size in sizes:
        problem = make_mlp([4, 64], max(1, size // 1024), batch_size=1024)
        epochs = max(1, total // len(problem.x))
        by_hand = trainers(load(["handwritten"]), problem)["hand-written loop"]
        runs |= {
            f"hand-written loop, {size:,}": _repeated(by_hand, epochs),
            f"easyflax fit, {size:,}": _fit(problem, epochs),
        }
        rows |= {name: len(problem.x) * epochs for name in list(runs)[-2:]}
    times = interleaved(runs, rounds=rounds, calls=1, warm_ups=1)
    return _growth(times, rows, sizes, "a row")


def cost_of_layers(sizes: Sequence[int], steps: int, rounds: int) -> str:
    """Returns the table of costs of a step a layer, and a line on what the first epoch took."""
    runs: dict[str, Callable[[], object]] = {}
    layers: dict[str, int] = {}
    first = []
    for size in sizes:
        problem = make_mlp([8] * (size + 1), steps)
        for name, run in trainers(load(FILES), problem).items():
            begun = time.perf_counter()
            run()
            first.append(f"{name}, {size:,} layers: {time.perf_counter() - begun:.1f} s")
            runs[f"{name}, {size:,}"] = run
            layers[f"{name}, {size:,}"] = size * steps
    times = interleaved(runs, rounds=rounds, calls=1, warm_ups=1)
    compiled_in = "The first epoch, which compiles: " + "; ".join(first) + "."
    return f"{_growth(times, layers, sizes, 'a step a layer')}\n\n{compiled_in}"


def _growth(
    times: Mapping[str, Sequence[float]], parts: Mapping[str, int], sizes: Sequence[int], title: str
) -> str:
    names = sorted(times, key=lambda name: name.partition(",")[0])
    costs = {name: [seconds / parts[name] for seconds in times[name]] for name in names}
    least = f"easyflax fit, {sizes[0]:,}"
    goals = [Goal(f"easyflax fit, {size:,}", "at most", 1.5, least) for size in sizes[1:]]
    return table(costs, least, title, unit="us", ratio="share", goals=goals)


def _repeated(epoch: Callable[[], float], times: int) -> Callable[[], float]:
    return lambda: [epoch() for _ in range(times)][-1]


def _fit(problem: Problem, epochs: int) -> Callable[[], object]:
    model = compiled(problem)

    def fit() -> object:
        with on_terminal():
            return model.fit(problem.x, problem.y, batch_size=problem.batch_size, epochs=epochs, verbose=1)

    return fit


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it runs")
    quick = parser.parse_args().quick
    row_counts = (10**4, 10**5) if quick else (10**4, 10**5, 10**6, 10**7)
    print(cost_of_rows(row_counts, 10**5 if quick else 10**6, 2 if quick else 7), flush=True, end="\n\n")
    layer_counts = (10, 30) if quick else (10, 100, 1000)
    print(cost_of_layers(layer_counts, 8 if quick else 64, 2 if quick else 7))
