"""Whether a fit can go on from a folder, asked before anything is compiled."""

from __future__ import annotations

import os

from easyflax.checkpoint import Checkpoint, newest
from easyflax.errors import CheckpointError

__all__ = ["check_resumes", "resumable"]


def check_resumes(path: str | os.PathLike[str], initial_epoch: int) -> None:
    """Raises unless a fit can go on from `path`.

    Raises:
        CheckpointError: there is nothing to go on from.
        ValueError: the first epoch is given as well.
    """
    if initial_epoch:
        raise ValueError(
            f"fit: initial_epoch is {initial_epoch} and resume_from is {os.fspath(path)!r}, expected one of "
            "them: the checkpoint knows the epoch. Leave initial_epoch out."
        )
    resumable(path)


def resumable(path: str | os.PathLike[str]) -> Checkpoint:
    """Returns the newest checkpoint in `path`, if it holds all that a fit needs.

    Raises:
        CheckpointError: there is none, or it holds weights only.
    """
    saved = newest(path)
    if not saved.holds_run:
        raise CheckpointError(
            f"{saved.path} holds a model and not a run of fit, expected a checkpoint that ModelCheckpoint "
            "saved within fit, without save_weights_only. Load it by model.load_checkpoint(path), and train "
            "on with fit(initial_epoch=...)."
        )
    return saved
