"""The words of progress: a moment of an epoch, an evaluation or a prediction, and how parts are spelled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

_MOST_ENTRIES = 3  # of an array-valued metric, spelled one by one


@dataclass(frozen=True)
class Moment:
    """How far something has come.

    Attributes:
        title: such as `"Epoch 1/10"`.
        done: steps whose results have arrived.
        total: steps altogether, None if unknown.
        seconds: since the beginning.
        seconds_a_step: None before the first step.
        logs: by name.
        note: what else is going on, such as a validation.
    """

    title: str
    done: int = 0
    total: int | None = None
    seconds: float = 0.0
    seconds_a_step: float | None = None
    logs: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def count(self) -> str:
        """Steps done and to do, in a fixed width while their total is known."""
        return f"{self.done}/?" if self.total is None else f"{self.done:>{len(str(self.total))}}/{self.total}"

    @property
    def clock(self) -> str:
        """The time since the beginning, and the time that remains if one can know."""
        elapsed = clock(self.seconds)
        if self.total in (None, self.done) or self.seconds_a_step is None:
            return elapsed
        return f"{elapsed}<{clock(((self.total or 0) - self.done) * self.seconds_a_step)}"

    @property
    def pace(self) -> str:
        """The time of a step, empty before the first one."""
        return "" if self.seconds_a_step is None else pace(self.seconds_a_step)

    @property
    def words(self) -> list[str]:
        """The note and the logs, each as text."""
        return [*filter(None, [self.note]), *(f"{name}: {text}" for name, text in spelled(self.logs))]

    def last_line(self, columns: int | None = None) -> str:
        """Returns the line that stays when it is over, broken between its parts if it is too long."""
        count = [f"{self.done}/{self.total or self.done}"] if self.done else []
        parts = [" ".join([self.title, *count]), duration(self.seconds), self.pace, *self.words]
        return "\n  ".join(" - ".join(line) for line in packed(list(filter(None, parts)), columns, gap=3))


def packed(parts: list[Any], columns: int | None, gap: int) -> list[list[Any]]:
    """Returns the parts in lines no longer than `columns`, the lines after the first indented by two.

    Args:
        parts: strings, or others with a length.
        columns: None for one line.
        gap: the length of what comes between two parts.

    Examples:
        >>> packed(["Epoch 1/2", "0.5s", "loss: 0.25"], 16, gap=3)
        [['Epoch 1/2', '0.5s'], ['loss: 0.25']]
    """
    lines: list[list[Any]] = [[]]
    length = -gap
    for part in parts:
        length += gap + len(part)
        if columns is not None and length > columns and lines[-1]:
            lines.append([])
            length = 2 + len(part)
        lines[-1].append(part)
    return lines


def spelled(logs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns names and texts of the logs, the losses before the other values of their kind."""
    names = sorted(logs, key=lambda name: (name.startswith("val_"), not name.endswith("loss")))
    texts = ((name, value_text(logs[name])) for name in names)
    return [(name, text) for name, text in texts if text]


def value_text(value: Any) -> str:
    """Returns a logged value as short text, empty for what has none.

    Examples:
        >>> [value_text(value) for value in (0.12345, 0.00012345, 0, 12345678.9, float("nan"), "warm")]
        ['0.1235', '1.2345e-04', '0.0000', '1.2346e+07', 'nan', 'warm']
        >>> import numpy as np
        >>> value_text(np.array([0.5, 1.0])), value_text(np.eye(10))
        ('[0.5000, 1.0000]', 'mean 0.1000 of 10x10')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return (
            f"[{', '.join(map(value_text, value[:_MOST_ENTRIES]))}{', ...' * (len(value) > _MOST_ENTRIES)}]"
        )
    shape = getattr(value, "shape", ())
    if shape and len(shape) == 1 and shape[0] <= _MOST_ENTRIES:
        return value_text(value.tolist())
    if shape and math.prod(shape):
        return f"mean {value_text(float(value.mean()))} of {'x'.join(map(str, shape))}"
    if shape == () and (isinstance(value, Real) or hasattr(value, "dtype")):
        return _number(float(value))
    return ""


def _number(value: float) -> str:
    if value == 0 or not math.isfinite(value) or 1e-3 < abs(value) < 1e6:
        return f"{value:.4f}"
    return f"{value:.4e}"


def duration(seconds: float) -> str:
    """Returns a time as text.

    Examples:
        >>> duration(8.06), duration(65), duration(3723)
        ('8.1s', '1:05', '1:02:03')
    """
    return f"{seconds:.1f}s" if seconds < 59.95 else clock(seconds)


def clock(seconds: float) -> str:
    """Returns a time as on a stop watch.

    Examples:
        >>> clock(8.06), clock(3723)
        ('0:08', '1:02:03')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def pace(seconds: float) -> str:
    """Returns the time of a step as text.

    Examples:
        >>> pace(12.3), pace(0.0123), pace(0.0000123)
        ('12s/step', '12ms/step', '12us/step')
        >>> pace(1.23)
        '1.2s/step'
    """
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        number = seconds * scale
        if number >= 1 or unit == "us":
            return f"{number:.{int(number < 9.95)}f}{unit}/step"
    raise AssertionError("microseconds are the last unit")
