"""The record of a fit: what `fit` returns."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from easyflax.errors import unknown_name_message
from easyflax.train.callback import Callback
from easyflax.train.logs import as_python
from easyflax.train.progress_text import value_text

_ROWS_SHOWN = 10  # of the table in a notebook


class History(Callback):
    """Keeps the logs of every epoch.

    Attributes:
        history: for each name in the logs, a list of Python floats (of arrays, for metrics with several
            entries), one for each epoch that had the name.
        epoch: the numbers of the epochs, from 0 (or `initial_epoch`).
        params: `verbose`, `epochs` and `steps` of the fit.

    Examples:
        >>> history = History()
        >>> history.on_epoch_end(0, {"loss": 2.0})
        >>> history.on_epoch_end(1, {"loss": 1.0, "val_loss": 1.5})
        >>> history.history
        {'loss': [2.0, 1.0], 'val_loss': [1.5]}
        >>> history
        History(epochs=2, loss=1.0000, val_loss=1.5000)
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []
        self._rows: dict[str, list[int]] = {}  # places in `epoch` that the values of a name belong to

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Appends the epoch's logs."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(as_python(value))
            self._rows.setdefault(name, []).append(len(self.epoch))
        self.epoch.append(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Returns the record so far."""
        # Apart from their values, since dicts may come back in another order.
        names = list(self.history)
        return {"names": names, "history": self.history, "epoch": self.epoch, "rows": self._rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with another record."""
        self.history = {name: list(state["history"][name]) for name in state["names"]}
        self.epoch = list(state["epoch"])
        self._rows = {name: list(rows) for name, rows in state["rows"].items()}

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: a row an epoch, a column a name, NaN where an epoch had no value.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "History.to_pandas: pandas is not installed, expected version 2 or later. Install it with "
                "'pip install pandas'."
            ) from error
        epochs, columns = self._table()
        return pd.DataFrame(columns, index=pd.Index(epochs, name="epoch"))

    def plot(self, metrics: str | Iterable[str] | None = None, ax: Any = None) -> Any:
        """Draws each metric over the epochs, counted from 1, with its validation in the same axes.

        Args:
            metrics: names without `val_`; all by default.
            ax: a `matplotlib.axes.Axes` to draw in, or as many of them as there are metrics; by default
                those of a new figure.

        Returns:
            the axes, of `Axes` if there is one metric, else an array of them; their `figure` has them all.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: there are no epochs or no such metrics, or the number of axes is another.
        """
        known = list(dict.fromkeys(name.removeprefix("val_") for name in self.history))
        known.sort(key=lambda name: not name.endswith("loss"))
        names = known if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
        for name in names:
            if name not in known:
                raise ValueError(f"History.plot: {unknown_name_message('metric', name, known)}")
        if not names:
            raise ValueError(
                "History.plot: no metrics to draw, expected one or more. Plot after fit has done an epoch, "
                "and name metrics if you name any."
            )
        axes = _axes(len(names), ax)
        epochs, columns = self._table()
        for name, each in zip(names, axes):
            _draw(each, name, epochs, columns)
        return axes[0] if len(names) == 1 else axes

    def _table(self) -> tuple[list[int], dict[str, list[Any]]]:
        """Returns the epochs, and under each name a value for each of them, NaN where there is none."""
        # The lists are the user's to change: what was appended there follows the last epoch.
        rows = max([len(self.epoch), *map(len, self.history.values())])
        missing = range(rows - len(self.epoch))
        following = self.epoch[-1] + 1 if self.epoch else 0
        columns = {}
        for name, values in self.history.items():
            places: Sequence[int] = self._rows.get(name, [])
            columns[name] = [float("nan")] * rows
            if len(places) != len(values):
                places = range(len(values))
            for place, value in zip(places, values):
                columns[name][place] = value
        return [*self.epoch, *(following + number for number in missing)], columns

    def __repr__(self) -> str:
        last = "".join(
            f", {name}={value_text(values[-1])}" for name, values in self.history.items() if values
        )
        return f"{type(self).__name__}(epochs={len(self.epoch)}{last})"

    def _repr_html_(self) -> str:
        """Returns a table for notebooks, without the middle if it is long."""
        epochs, columns = self._table()
        rows = [
            [str(epoch), *(_cell(column[i]) for column in columns.values())] for i, epoch in enumerate(epochs)
        ]
        if len(rows) > _ROWS_SHOWN:
            half = _ROWS_SHOWN // 2
            rows = [*rows[:half], ["…"] * (len(columns) + 1), *rows[-half:]]
        head = _row("th", ["epoch", *map(html.escape, columns)])
        body = "".join(_row("td", row) for row in rows)
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _cell(value: Any) -> str:
    return "" if isinstance(value, float) and value != value else html.escape(value_text(value))


def _axes(number: int, given: Any) -> Any:
    """Returns an array of as many axes, the given ones or new ones side by side."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "History.plot: matplotlib is not installed, expected version 3.8 or later. Install it with "
            "'pip install easyflax[notebook]' or 'pip install matplotlib'."
        ) from error
    import numpy as np

    if given is None:
        columns = min(number, 3)
        rows = -(-number // columns)
        figure, axes = plt.subplots(
            rows, columns, figsize=(4.5 * columns, 3.2 * rows), squeeze=False, layout="constrained"
        )
        for unused in axes.ravel()[number:]:
            figure.delaxes(unused)
        return axes.ravel()[:number]
    axes = np.ravel(np.asarray(given, dtype=object))
    if len(axes) != number:
        raise ValueError(
            f"History.plot: ax holds {len(axes)} axes for {number} metrics, expected one for each. Pass that "
            f"many, name that many metrics, or leave ax out."
        )
    return axes


def _draw(axes: Any, name: str, epochs: list[int], columns: dict[str, list[Any]]) -> None:
    numbers = [epoch + 1 for epoch in epochs]
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        numbers = list(range(1, len(epochs) + 1))  # several fits, one after the other
    for full, label in ((name, "training"), (f"val_{name}", "validation")):
        points = [(n, value) for n, value in zip(numbers, columns.get(full, [])) if not _is_missing(value)]
        if points:
            axes.plot(*zip(*points), label=label, marker="." if len(points) <= 20 else None)
    axes.set(title=name, xlabel="epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if f"val_{name}" in columns:
        axes.legend()


def _is_missing(value: Any) -> bool:
    return isinstance(value, float) and value != value
