"""Saving and restoring: weights in one file, and checkpoints of a whole training state through Orbax."""

from __future__ import annotations

from easyflax.checkpoint.folder import Checkpoint as Checkpoint
from easyflax.checkpoint.folder import checkpoints_in as checkpoints_in
from easyflax.checkpoint.folder import is_kept as is_kept
from easyflax.checkpoint.folder import newest as newest
from easyflax.checkpoint.folder import next_path as next_path
from easyflax.checkpoint.folder import remove_checkpoint as remove_checkpoint
from easyflax.checkpoint.weights_file import load_weights as load_weights
from easyflax.checkpoint.weights_file import save_weights as save_weights
from easyflax.checkpoint.writer import CheckpointWriter as CheckpointWriter

__all__ = [
    "Checkpoint",
    "CheckpointWriter",
    "checkpoints_in",
    "is_kept",
    "load_weights",
    "newest",
    "next_path",
    "remove_checkpoint",
    "save_weights",
]
