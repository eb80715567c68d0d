"""A folder of checkpoints: finding the newest one that is whole, and restoring it.

folder/
  000001-step500/            one checkpoint; the first number counts saves, so the newest is the highest
    state/                   Orbax's files
    MANIFEST.json            written last
  000002-step1000/
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from easyflax.checkpoint import orbax_adapter
from easyflax.checkpoint.manifest import MANIFEST, RUN, Manifest, read_manifest, verify_files
from easyflax.checkpoint.plain_values import decode
from easyflax.checkpoint.tree import flatten, from_plain, mismatches, spec_of, to_plain, unflatten
from easyflax.errors import CheckpointError

__all__ = ["Checkpoint", "checkpoints_in", "is_kept", "newest", "next_path", "remove_checkpoint"]

_NAME = re.compile(r"(\d{6,})-step(\d+)")
_SHOWN = 4


class Checkpoint:
    """One complete checkpoint, verified when it was opened.

    Attributes:
        path: its folder.
        step: the training step that it was saved at.
        metadata: what was saved beside the arrays.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.step = manifest.step
        self.metadata = manifest.metadata
        self._run = manifest.run
        self._arrays = {name: spec for name, spec in manifest.arrays.items() if not name.startswith(RUN)}
        self._run_arrays = {name: spec for name, spec in manifest.arrays.items() if name.startswith(RUN)}

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, step={self.step})"

    @property
    def holds_run(self) -> bool:
        """Whether something was saved as `run`."""
        return self._run is not None

    def restore(self, template: Any, *, partial: bool = False) -> Any:
        """Returns the saved tree.

        Args:
            template: a tree of the same structure, shapes and dtypes as the saved one. Its arrays' shardings
                are those of the result; NumPy arrays come back as NumPy arrays.
            partial: whether other arrays may be saved, too, which are then left alone.

        Raises:
            CheckpointError: the saved arrays have other names, shapes or dtypes; nothing is ever cast.
        """
        return self._restore(template, partial)[0]

    def restore_with_run(self, template: Any) -> tuple[Any, Any]:
        """Returns the saved tree as `restore` does, and what was saved as `run`, its arrays in NumPy's form.

        Raises:
            CheckpointError: as `restore`.
        """
        return self._restore(template, partial=False)

    def _restore(self, template: Any, partial: bool) -> tuple[Any, Any]:
        leaves = flatten(template)
        specs = {name: spec_of(leaf) for name, leaf in leaves.items()}
        beside = dict(self._run_arrays)
        if partial:
            beside |= {name: spec for name, spec in self._arrays.items() if name not in specs}
        if wrong := mismatches({n: spec for n, spec in self._arrays.items() if n not in beside}, specs):
            more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise CheckpointError(
                f"{self.path}: {'; '.join(wrong[:_SHOWN])}{more}; expected the arrays of this model, of the "
                "same shape and dtype. Build and compile the model as it was when it was saved."
            )
        wanted = {name: to_plain(leaf) for name, leaf in leaves.items()}
        wanted |= {name: np.empty(spec.shape, np.dtype(spec.dtype)) for name, spec in beside.items()}
        plain = orbax_adapter.read_arrays(self.path / "state", wanted)
        specs |= self._run_arrays
        arrays = {name: from_plain(plain[name], spec) for name, spec in specs.items()}
        in_run = {name.removeprefix(RUN): arrays[name] for name in self._run_arrays}
        return unflatten(template, arrays), decode(self._run, in_run)


def newest(folder: str | os.PathLike[str]) -> Checkpoint:
    """Returns the newest checkpoint in a folder that is whole, with a warning where a newer one is not.

    Args:
        folder: what `ModelCheckpoint` was given, or one of the checkpoints in it.

    Raises:
        CheckpointError: there is no checkpoint, or none that is whole.
    """
    folder = Path(folder).absolute()
    candidates = [folder] if (folder / MANIFEST).exists() else checkpoints_in(folder)[::-1]
    damaged = []
    for path in candidates:
        try:
            manifest = read_manifest(path)
            verify_files(path, manifest)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            damaged.append(f"{path.name} cannot be used: {error}")
            continue
        if damaged:
            warnings.warn(f"{folder}: {'; '.join(damaged)}. Using {path.name} instead.", stacklevel=2)
        return Checkpoint(path, manifest)
    raise CheckpointError(f"{folder}: {_why_none(folder, damaged)}")


def checkpoints_in(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, whole or not, in the order of their saving."""
    if not folder.is_dir():
        return []
    numbered = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def next_path(folder: Path, step: int) -> Path:
    """Returns the path for one more checkpoint; its number is higher than all that were ever left there."""
    last = checkpoints_in(folder)[-1:]
    number = int(last[0].name.split("-")[0]) + 1 if last else 1
    return folder / f"{number:06d}-step{step}"


def is_kept(path: Path) -> bool:
    """Returns whether a checkpoint says of itself, in its metadata, that it is kept for good."""
    try:
        return bool(read_manifest(path).metadata.get("kept"))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return False


def remove_checkpoint(path: Path) -> None:
    """Deletes a checkpoint, its manifest first, so that a rest of it is never taken for a whole one."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _why_none(folder: Path, damaged: list[str]) -> str:
    expected = "expected a folder that ModelCheckpoint has written"
    if damaged:
        return f"{'; '.join(damaged)}; {expected}. Restore the folder from a copy, or train anew."
    if not folder.is_dir():
        return f"there is no such folder, {expected}. Check the path."
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and checkpoints_in(path))
    advice = f"Pass one of its folders: {', '.join(inside)}." if inside else "Check the path."
    return f"it holds no checkpoint, {expected}. {advice}"
