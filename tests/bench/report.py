"""Tables of what was measured: medians, quartiles, the ratio to a baseline, and goals met or missed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "MiB": 2.0**-20}


@dataclass(frozen=True)
class Goal:
    """What a contender shall reach, by the median over the rounds.

    Attributes:
        of: the contender.
        kind: whether the bound is the least or the most.
        bound: a speed or a share of that of `versus`; without `versus`, in the unit of the table.
        versus: another contender of the table.
    """

    of: str
    kind: Literal["at least", "at most"]
    bound: float
    versus: str | None = None


def table(
    values: Mapping[str, Sequence[float]],
    baseline: str,
    title: str,
    *,
    unit: str = "ms",
    ratio: Literal["speed", "share"] = "speed",
    per: int = 1,
    goals: Sequence[Goal] = (),
) -> str:
    """Returns a Markdown table.

    Args:
        values: for each contender one figure a round, in seconds or bytes.
        baseline: the contender that the others are compared with.
        title: of what was measured.
        unit: of the figures, see `UNITS`.
        ratio: `"speed"`, how many times as fast as the baseline, or `"share"`, which part of its figure.
        per: what the figures are divided by, such as the steps of an epoch.
        goals: those of contenders that are not in the table are left out.
    """
    factor = UNITS[unit] / per
    lines = [
        f"| {title} | median {unit} | quartiles | {ratio}, {baseline} = 1 | goal |",
        "|---|---|---|---|---|",
    ]
    for name, figures in values.items():
        low, middle, high = (factor * q for q in quartiles(figures))
        versus = ratio_of(values, name, baseline, ratio)
        judged = "; ".join(_judge(goal, values, factor, ratio) for goal in goals if goal.of == name)
        spread = f"{_short(low)} to {_short(high)}"
        lines.append(f"| {name} | {_short(middle)} | {spread} | {versus:.2f} | {judged} |")
    return "\n".join(lines)


def quartiles(figures: Sequence[float]) -> list[float]:
    """Returns the lower quartile, the median and the upper quartile; of one figure, that figure."""
    return statistics.quantiles(figures, n=4, method="inclusive") if len(figures) > 1 else [*figures] * 3


def ratio_of(values: Mapping[str, Sequence[float]], name: str, baseline: str, ratio: str) -> float:
    """Returns the median over the rounds of the ratio to the baseline in the same round."""
    pairs = zip(values[name], values[baseline], strict=True)
    return statistics.median(b / a if ratio == "speed" else a / b for a, b in pairs)


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def _judge(goal: Goal, values: Mapping[str, Sequence[float]], factor: float, ratio: str) -> str:
    if goal.versus is None:
        got, than = factor * statistics.median(values[goal.of]), ""
    elif goal.versus in values:
        got, than = ratio_of(values, goal.of, goal.versus, ratio), f" of {goal.versus}, {ratio}"
    else:
        return f"{goal.kind} {goal.bound:g} of {goal.versus}: not measured"
    met = got >= goal.bound if goal.kind == "at least" else got <= goal.bound
    return f"{goal.kind} {goal.bound:g}{than}: {got:.2f}, {'met' if met else '**missed**'}"
