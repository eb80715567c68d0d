"""Compiled programs kept on disk: the second start of a program compiles nothing again."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from easyflax.user_cache import cache_folder

__all__ = ["enable_compilation_cache"]

# By itself jax keeps what took a second to compile. The steps of small models take less, and are still read
# much faster than compiled. A variable of the environment of the same name in capitals goes before.
_OPTIONS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
_FOLDER = "jax_compilation_cache_dir"
_GIBIBYTE = 1 << 30


def enable_compilation_cache(
    folder: str | os.PathLike[str] | None = None, *, max_bytes: int | None = 2 * _GIBIBYTE
) -> str:
    """Keeps compiled programs on disk from now on, and uses those that earlier runs left there.

    To be called once, anywhere before `fit`; several processes may share the folder. What is in it is run as
    code, so it must be one that only trusted people can write to. `JAX_ENABLE_COMPILATION_CACHE=0` in the
    environment keeps everything as it would be without this call.

    Args:
        folder: where to; made if there is none. An address such as `"gs://bucket/folder"` is left to jax.
            None for the one that jax knows already (`JAX_COMPILATION_CACHE_DIR`), else `compiled` in
            `$EASYFLAX_HOME`, or in the folder `easyflax` among the user's cached files.
        max_bytes: what the programs in the folder may take when a run begins: those that were not used for
            longest are removed. None leaves all.

    Returns:
        The folder.

    Raises:
        ValueError: `max_bytes` is negative.
        OSError: the folder cannot be made or written to.

    Examples:
        >>> import easyflax as ef
        >>> folder = ef.enable_compilation_cache()  # doctest: +SKIP
    """
    if max_bytes is not None and max_bytes < 0:
        raise ValueError(
            f"enable_compilation_cache: max_bytes is {max_bytes}, expected 0 or more. Pass None for no bound."
        )
    known: str | None = getattr(jax.config, _FOLDER)
    place = os.fspath(folder) if folder is not None else known or str(cache_folder() / "compiled")
    if "://" not in place:
        place = str(_writable(Path(place).expanduser()))
        _remove_oldest(place, max_bytes)
    for option, value in _OPTIONS.items():
        if option.upper() not in os.environ:
            jax.config.update(option, value)
    if place != known:
        jax.config.update(_FOLDER, place)
        compilation_cache.reset_cache()  # what was compiled before may have opened another one
    return place


def _writable(folder: Path) -> Path:
    """Returns the absolute path of a folder, made if there is none."""
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            error.errno,
            f"enable_compilation_cache: nothing can be written to the folder ({error.strerror}), expected "
            "one where that is allowed. Pass another one, or set JAX_COMPILATION_CACHE_DIR",
            str(folder),
        ) from error
    return folder


def _remove_oldest(folder: str, max_bytes: int | None) -> None:
    """Removes programs until the others take no more than `max_bytes`.

    jax has an option for it: it needs another package, locks the folder at every look into it, and fails in
    folders that were filled without it.
    """
    if max_bytes is None:
        return
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith("-cache"):
                with suppress(FileNotFoundError):  # another process removes it as well
                    found.append((entry.stat(), entry.path))
    left = sum(status.st_size for status, _ in found)
    for status, path in sorted(found, key=lambda each: max(each[0].st_atime, each[0].st_mtime)):
        if left <= max_bytes:
            return
        left -= status.st_size
        Path(path).unlink(missing_ok=True)
