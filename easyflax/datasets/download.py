"""Files fetched once, verified by their SHA-256, and kept in a cache folder."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from easyflax.errors import DownloadError
from easyflax.user_cache import cache_folder

Split = tuple[np.ndarray, np.ndarray]
"""One part of a data set: the inputs and their labels, row by row."""

_CHUNK_BYTES = 1 << 16
_TIMEOUT_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A public file: where to get it, and how to know that it is the right one.

    Attributes:
        urls: addresses of the same bytes, tried in this order.
        sha256: the checksum in lower-case hexadecimal digits.
        size: the length in bytes.
    """

    urls: tuple[str, ...]
    sha256: str
    size: int

    @property
    def name(self) -> str:
        return self.urls[0].rsplit("/", 1)[-1]


def fetch(file: RemoteFile, dataset: str) -> Path:
    """Returns the path of a verified local copy of `file`, downloading it when there is none.

    A copy whose checksum is wrong is downloaded again. The new one appears under its name only when it is
    complete and verified, so an interrupted download leaves nothing behind, and two processes may fetch
    at once.

    Args:
        file: what to fetch.
        dataset: the name of the folder inside the cache, and of the data set in messages.

    Raises:
        DownloadError: no address could be reached, or none gave the known bytes.
    """
    path = cache_folder() / "datasets" / dataset / file.name
    if path.is_file() and _sha256(path) == file.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    problems = []
    for url in file.urls:
        try:
            return _download(url, file, path)
        except (OSError, http.client.HTTPException) as error:
            problems.append(f"{url}: {_reason(error)}")
    raise DownloadError(
        f"Data set {dataset!r}: {'; '.join(problems)}. "
        f"Expected {file.name} with {file.size:,} bytes and SHA-256 {file.sha256}. "
        f"Check the network connection and try again, or put the file at {path} yourself."
    )


def _download(url: str, file: RemoteFile, path: Path) -> Path:
    """Downloads next to `path`, verifies, and moves the result there in one step."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as target:
            _copy(url, file, target)
        _check(Path(temporary), file)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _copy(url: str, file: RemoteFile, target) -> None:
    from tqdm import tqdm

    bar = tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, disable=None, leave=False)
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response, bar:
        while chunk := response.read(_CHUNK_BYTES):
            target.write(chunk)
            bar.update(len(chunk))


def _check(path: Path, file: RemoteFile) -> None:
    size = path.stat().st_size
    if size != file.size:
        raise OSError(f"got {size:,} of {file.size:,} bytes")
    if (digest := _sha256(path)) != file.sha256:
        raise OSError(f"got a file with SHA-256 {digest}")


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    """Returns what went wrong, without the `<urlopen error ...>` that urllib puts around it."""
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__
