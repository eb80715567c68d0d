"""A text file that a run writes piece by piece, and that a resumed run goes on with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from easyflax.callbacks.paths import check_file_writable

__all__ = ["LogFile"]


class LogFile:
    """Text, written by process 0 alone, and complete on the disk after each call of `write`.

    The file is emptied, or made, by the first `write` and not before: a run that stops earlier, or that is
    told by `restore` to go on where another one stopped, loses nothing.

    Args:
        owner: the callback's name, for messages.
        path: of the file; `~` is the home folder, and missing folders are made.
        append: writes behind what is there.
    """

    def __init__(self, owner: str, path: str | os.PathLike[str], append: bool):
        self.path = Path(path).expanduser()
        self._owner = owner
        self._append = append
        self._has_begun = False
        self._size: int | None = None  # what a resumed run keeps of the file

    def begin(self) -> None:
        """Begins a run.

        Raises:
            OSError: the file cannot be written.
        """
        self._has_begun, self._size = False, None
        if jax.process_index() == 0:
            check_file_writable(self._owner, self.path)

    def first_line(self) -> str:
        """Returns the first line of what will stand before the next text, "" if nothing will."""
        keeps = self._has_begun or self._append or self._size
        if not (keeps and self.path.is_file()):
            return ""
        with self.path.open(encoding="utf-8", newline="") as file:
            return file.readline()

    def write(self, text: str) -> None:
        """Adds text."""
        if jax.process_index() != 0:
            return
        if not self._has_begun:
            self._cut()
            self._has_begun = True
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)

    def state(self) -> dict[str, Any]:
        """Returns how long the file is, for `restore`."""
        is_there = self._has_begun and self.path.is_file()
        return {"size": self.path.stat().st_size if is_there else self._size}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Lets the next `write` go on where the file was when `state` was taken."""
        self._size = None if state["size"] is None else int(state["size"])

    def _cut(self) -> None:
        """Removes what does not stay: all, or what the stopped run wrote after its last checkpoint."""
        if self.path.is_file() and not (self._append and self._size is None):
            os.truncate(self.path, min(self._size or 0, self.path.stat().st_size))
