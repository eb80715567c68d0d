"""Times contenders interleaved in one run, so that a machine that slows down slows all of them down."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int = 40, calls: int = 50, warm_ups: int = 5
) -> dict[str, list[float]]:
    """Returns for each contender the seconds a call took, one figure a round (the mean over `calls` calls).

    Each is called `warm_ups` times before. Garbage collection is off while a contender runs and happens
    between rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        for _ in range(warm_ups):
            run()
    names = list(contenders)
    for number in range(rounds):
        order = names if number % 2 == 0 else names[::-1]
        gc.collect()
        gc.disable()
        for name in order:
            run = contenders[name]
            start = time.perf_counter()
            for _ in range(calls):
                run()
            times[name].append((time.perf_counter() - start) / calls)
        gc.enable()
    return times


def table(times: Mapping[str, list[float]], baseline: str, title: str) -> str:
    """Returns a Markdown table: medians, quartiles, and the median of the ratios to `baseline`."""
    lines = [f"| {title} | median us | quartiles us | times {baseline} |", "|---|---|---|---|"]
    for name, seconds in times.items():
        low, middle, high = (1e6 * q for q in statistics.quantiles(seconds, n=4))
        ratio = statistics.median(a / b for a, b in zip(seconds, times[baseline], strict=True))
        lines.append(f"| {name} | {middle:.1f} | {low:.1f} to {high:.1f} | {ratio:.2f} |")
    return "\n".join(lines)


def libraries() -> dict[str, Any]:
    """Returns the module systems to compare, by name: easyflax, and flax where it is installed."""
    from easyflax import nnx

    found = {"easyflax nnx": nnx}
    try:
        from flax import nnx as flax_nnx

        found["flax nnx"] = flax_nnx
    except ImportError:
        print("flax is not installed: its row is left out")
    return found
