"""Writes the logs of each epoch to a CSV file."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from easyflax.callbacks.log_file import LogFile
from easyflax.train.callback import Callback

__all__ = ["CSVLogger"]

_MISSING = "NA"


class CSVLogger(Callback):
    """Writes a row for each epoch: its number, counted from 0, and the logs by name; rows are Keras's.

    The columns are those of the first epoch. If that one was not validated, each has a `val_` column as well,
    in case that a later one is; what an epoch does not have is "NA". A file that is appended to keeps its
    columns.

    Args:
        filename: of the file; missing folders are made.
        separator: the character between two values.
        append: writes behind what is in the file, without a second header.

    Raises:
        ValueError: the separator is no single character; in `fit`, a file to append to has no header of this
            kind.
        OSError: in `fit`, the file cannot be written; said before training.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> logger = CSVLogger(folder / "log.csv")
        >>> logger.on_train_begin()
        >>> logger.on_epoch_end(0, {"loss": 0.5, "val_loss": 0.75})
        >>> (folder / "log.csv").read_text().splitlines()
        ['epoch,loss,val_loss', '0,0.5,0.75']
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        super().__init__()
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(
                f"CSVLogger: separator is {separator!r}, expected a single character. Pass for example ';'."
            )
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self._file = LogFile(type(self).__name__, filename, append)
        self._columns: list[str] | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._columns = None
        self._file.begin()
        self._columns_of_file()  # which raises now if it cannot be appended to

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = logs or {}
        if self._columns is None:
            self._columns = self._columns_of_file() or _columns_for(logs)
            self._warn_of_others(logs)
        if not self._file.first_line():
            self._file.write(self._row(["epoch", *self._columns]))
        self._file.write(self._row([epoch, *(_cell(logs.get(name, _MISSING)) for name in self._columns)]))

    def state_dict(self) -> dict[str, Any]:
        """Returns how long the file is: a resumed run goes on there."""
        return self._file.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the file where `state` was taken; rows that came after it are removed."""
        self._file.restore(state)

    def _columns_of_file(self) -> list[str] | None:
        header = self._file.first_line()
        if not header:
            return None
        first, *names = next(csv.reader([header], delimiter=self.separator))
        if first != "epoch":
            raise ValueError(
                f"CSVLogger: the file {self.filename} begins with {header.strip()[:60]!r}, expected a header "
                f"'epoch{self.separator}...' of an earlier run. Pass another filename, that run's separator, "
                f"or append=False to overwrite it."
            )
        return names

    def _warn_of_others(self, logs: Mapping[str, Any]) -> None:
        others = sorted(set(logs) - set(self._columns or ()))
        if others:
            warnings.warn(
                f"CSVLogger: the file {self.filename} has no column for {', '.join(map(repr, others))}; they "
                f"are not written. Pass another filename, or append=False to overwrite it.",
                stacklevel=2,
            )

    def _row(self, cells: list[Any]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator).writerow(cells)
        return text.getvalue()


def _columns_for(logs: Mapping[str, Any]) -> list[str]:
    names = sorted(logs)
    if any(name.startswith("val_") for name in names):
        return names
    return [*names, *(f"val_{name}" for name in names)]


def _cell(value: Any) -> Any:
    """Returns a number or text as it is, and an array in quotes and brackets."""
    if isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", None) == 0:
        return value
    return f'"[{", ".join(map(str, value))}]"'
