"""Whether a path can be written, asked before training and not after the first epoch of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["check_file_writable", "check_folder_writable"]


def check_folder_writable(owner: str, folder: str | os.PathLike[str]) -> None:
    """Makes a folder, with those above it, and tries to write there; nothing is left in it.

    Args:
        owner: the callback's name, for the message.
        folder: its path.

    Raises:
        OSError: the folder cannot be made or written.
    """
    try:
        _probe(Path(folder))
    except OSError as error:
        raise _refusal(owner, "folder", folder, error) from error


def check_file_writable(owner: str, path: str | os.PathLike[str]) -> None:
    """Tries whether a file can be written, without changing or making it; its folder is made.

    Args:
        owner: the callback's name, for the message.
        path: of the file.

    Raises:
        OSError: it cannot be written, or its folder cannot be made.
    """
    try:
        if os.path.lexists(path):
            with open(path, "ab"):
                pass
        else:
            _probe(Path(path).parent)
    except OSError as error:
        raise _refusal(owner, "file", path, error) from error


def _probe(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"probe")


def _refusal(owner: str, kind: str, path: str | os.PathLike[str], error: OSError) -> OSError:
    return OSError(
        f"{owner}: the {kind} {os.fspath(path)!r} cannot be written ({error}), expected one that can. Pass "
        f"another path, or change what stands in its way, such as permissions."
    )
