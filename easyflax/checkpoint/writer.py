"""Saving in the background: Orbax's files first, the manifest last, and only then the old checkpoints go."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.checkpoint.folder import checkpoints_in, next_path, remove_checkpoint
from easyflax.checkpoint.manifest import MANIFEST, RUN, write_manifest
from easyflax.checkpoint.orbax_adapter import OrbaxWriter
from easyflax.checkpoint.plain_values import encode
from easyflax.checkpoint.strict_json import canonical
from easyflax.checkpoint.tree import flatten, spec_of, to_plain

__all__ = ["CheckpointWriter"]


class CheckpointWriter:
    """Saves trees of arrays, one at a time, while training goes on.

    A save begins when the one before has ended, so at most one is unfinished when a process dies. What went
    wrong in the background is raised by the next `save`, `wait` or `close`. Close it, or use it in a `with`:
    Orbax cannot finish a save while Python exits.
    """

    def __init__(self) -> None:
        self._orbax: OrbaxWriter | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[str | None] | None = None

    def save(
        self,
        folder: str | os.PathLike[str],
        tree: Any,
        *,
        step: int,
        metadata: Mapping[str, Any] | None = None,
        run: Any = None,
        replaces: Iterable[Path] = (),
    ) -> Path:
        """Begins to save, and returns the checkpoint's path once the arrays may be donated or changed.

        Args:
            folder: the folder of checkpoints, made where it is missing.
            tree: arrays in any pytree. A NaN anywhere, or an infinity under `"params"`, ends the save with a
                warning, and nothing is replaced.
            step: the training step, for people to read.
            metadata: what JSON can hold.
            run: what else the run needs to go on: plain values and arrays, see `plain_values`.
            replaces: older checkpoints to delete when this one is complete.

        Raises:
            TypeError, ValueError: the tree holds something other than arrays, or metadata that JSON cannot
            hold.
            OSError: the folder cannot be made; or the save before this one failed.
        """
        self.wait()
        leaves = flatten(tree)
        run, arrays = encode(run)
        leaves |= {RUN + name: array for name, array in arrays.items()}
        specs = {name: spec_of(leaf) for name, leaf in leaves.items()}
        metadata = dict(metadata or {})
        canonical([metadata, run])
        path = next_path(Path(folder).absolute(), step)
        path.mkdir(parents=True)
        # Asked of the devices here, in the order of the program; the answers are read in the background.
        suspects = {
            name: _is_broken(leaf, name.startswith("params/"))
            for name, leaf in leaves.items()
            if _is_float(leaf) and not name.startswith(RUN)  # a record may hold NaN
        }
        if self._orbax is None or self._thread is None:
            self._orbax = OrbaxWriter()
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="easyflax-checkpoint")
        self._orbax.start(path / "state", {name: to_plain(leaf) for name, leaf in leaves.items()})
        facts = {"step": step, "arrays": specs, "metadata": metadata, "run": run}
        self._pending = self._thread.submit(_finish, self._orbax, path, suspects, list(replaces), **facts)
        return path

    def wait(self) -> None:
        """Returns when the last save is complete.

        Raises:
            Exception: what went wrong with it, such as OSError for a full disk.
        """
        pending, self._pending = self._pending, None
        refusal = pending.result() if pending is not None else None
        if refusal:
            warnings.warn(refusal, stacklevel=3)

    def close(self) -> None:
        """Waits for the last save and ends the threads; the next `save` starts them again."""
        orbax, thread, self._orbax, self._thread = self._orbax, self._thread, None, None
        try:
            self.wait()
        finally:
            if thread is not None:
                thread.shutdown()
            if orbax is not None:
                orbax.close()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _finish(
    orbax: OrbaxWriter, path: Path, suspects: Mapping[str, Any], replaces: list[Path], **facts: Any
) -> str | None:
    """Completes a checkpoint in the background; returns why it was not kept, if so."""
    orbax.wait()
    broken = [name for name, flag in jax.device_get(dict(suspects)).items() if flag]
    if broken:
        remove_checkpoint(path)
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        return (
            f"The checkpoint {path} was not kept: NaN or infinite values in {', '.join(broken[:3])}{more}, "
            "expected finite ones. The last good checkpoint stays; lower the learning rate, or look for bad "
            "data."
        )
    write_manifest(path, **facts)
    unfinished = [other for other in checkpoints_in(path.parent) if not (other / MANIFEST).exists()]
    for other in (*replaces, *unfinished):
        remove_checkpoint(other)
    return None


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


@jax.jit
def _has_nan(array: jax.Array) -> jax.Array:
    return jnp.isnan(array).any()


@jax.jit
def _has_non_finite(array: jax.Array) -> jax.Array:
    return ~jnp.isfinite(array).all()


def _is_broken(leaf: Any, must_be_finite: bool) -> jax.Array:
    # Infinity is a value that optimizers start from (the best loss so far) and that masks are made of.
    return _has_non_finite(leaf) if must_be_finite else _has_nan(leaf)
