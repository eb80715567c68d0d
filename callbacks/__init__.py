"""Ready-made callbacks, and `Callback`, from which to derive one's own."""

from __future__ import annotations

from easyflax.callbacks.early_stopping import EarlyStopping as EarlyStopping
from easyflax.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from easyflax.train.callback import Callback as Callback

__all__ = ["Callback", "EarlyStopping", "ModelCheckpoint"]
