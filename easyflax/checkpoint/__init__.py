"""Saving and restoring: weights in one file, and checkpoints of a whole training state through Orbax."""

from __future__ import annotations

from easyflax.checkpoint.folder import Checkpoint as Checkpoint
from easyflax.checkpoint.folder import checkpoints_in as checkpoints_in
from easyflax.checkpoint.folder import newest as newest
from easyflax.checkpoint.weights_file import load_weights as load_weights
from easyflax.checkpoint.weights_file import save_weights as save_weights
from easyflax.checkpoint.writer import CheckpointWriter as CheckpointWriter

__all__ = ["Checkpoint", "CheckpointWriter", "checkpoints_in", "load_weights", "newest", "save_weights"]
