"""The last file of a checkpoint: which files belong to it, with sizes and sums, and which arrays they hold.

A checkpoint without a manifest was never finished. One whose files do not agree with it is damaged. The
manifest holds its own sum, so a changed manifest is no better than none.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from easyflax.checkpoint.strict_json import canonical, parse, sha256
from easyflax.checkpoint.tree import ArraySpec

__all__ = ["MANIFEST", "RUN", "Manifest", "read_manifest", "verify_files", "write_manifest"]

MANIFEST = "MANIFEST.json"
RUN = "run/"  # the names of arrays begin so that are not the model's
_FORMAT = "easyflax-checkpoint-1"
_LARGEST = 256 * 2**20


class Manifest(NamedTuple):
    """What a checkpoint says about itself."""

    step: int
    files: dict[str, list[Any]]  # path in the folder -> [size in bytes, SHA-256 sum]
    arrays: dict[str, ArraySpec]
    metadata: dict[str, Any]
    run: Any  # what `plain_values.encode` made; None where nothing was saved beside the model


def write_manifest(
    folder: Path,
    *,
    step: int,
    arrays: Mapping[str, ArraySpec],
    metadata: Mapping[str, Any],
    run: Any = None,
) -> None:
    """Writes the manifest of all files that are in `folder` now."""
    body = {
        "format": _FORMAT,
        "step": step,
        "files": {name: [path.stat().st_size, _file_sum(path)] for name, path in _files(folder).items()},
        "arrays": {name: list(spec) for name, spec in arrays.items()},
        "metadata": dict(metadata),
        "run": run,
    }
    temporary = folder / f".{MANIFEST}.tmp"
    with open(temporary, "wb") as file:
        file.write(canonical({"body": body, "sha256": sha256(canonical(body))}))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Returns the manifest of `folder`.

    Raises:
        ValueError: there is none, or it was changed; the message is the reason.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise ValueError(f"it has no {MANIFEST} (its save did not finish)")
    _require_plain_file(path)
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"its {MANIFEST} has {path.stat().st_size} bytes")
    sealed = parse(path.read_bytes())
    body = sealed.get("body")
    if not isinstance(body, dict) or sealed.get("sha256") != sha256(canonical(body)):
        raise ValueError(f"its {MANIFEST} was changed")
    if body.get("format") != _FORMAT:
        raise ValueError(f"its format is {body.get('format')!r}")
    arrays = {
        name: ArraySpec(tuple(shape), dtype, prng) for name, (shape, dtype, prng) in body["arrays"].items()
    }
    return Manifest(body["step"], body["files"], arrays, body["metadata"], body.get("run"))


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Raises unless the files of `folder` are those of the manifest, byte for byte.

    Raises:
        ValueError: a file is missing, foreign, a link, or changed; the message is the reason.
    """
    files = _files(folder)
    files.pop(MANIFEST, None)
    for name in sorted(files.keys() ^ manifest.files.keys()):
        raise ValueError(f"its file {name!r} is {'not in the manifest' if name in files else 'missing'}")
    # All sizes before the first sum: a truncated file is found without reading the rest.
    for name, (size, _) in manifest.files.items():
        if files[name].stat().st_size != size:
            raise ValueError(f"its file {name!r} has {files[name].stat().st_size} bytes, not {size}")
    for name, (_, expected) in manifest.files.items():
        if _file_sum(files[name]) != expected:
            raise ValueError(f"its file {name!r} was changed")


def _files(folder: Path) -> dict[str, Path]:
    """Returns all files under `folder` by their path in it; refuses links, which could lead elsewhere."""
    found = {}
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(root, name)
            if name in names:
                _require_plain_file(path)
                found[path.relative_to(folder).as_posix()] = path
            elif path.is_symlink():
                raise ValueError(f"its folder {name!r} is a link")
    return found


def _require_plain_file(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"its file {path.name!r} is no regular file")


def _file_sum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
