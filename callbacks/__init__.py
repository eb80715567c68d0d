"""Ready-made callbacks, and `Callback`, from which to derive one's own."""

from __future__ import annotations

from easyflax.callbacks.csv_logger import CSVLogger as CSVLogger
from easyflax.callbacks.early_stopping import EarlyStopping as EarlyStopping
from easyflax.callbacks.json_logger import JSONLogger as JSONLogger
from easyflax.callbacks.lambda_callback import LambdaCallback as LambdaCallback
from easyflax.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from easyflax.callbacks.remote_monitor import RemoteMonitor as RemoteMonitor
from easyflax.train.callback import Callback as Callback
from easyflax.train.callback_list import CallbackList as CallbackList
from easyflax.train.history import History as History
from easyflax.train.progress import Progress as ProgbarLogger

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "LambdaCallback",
    "ModelCheckpoint",
    "ProgbarLogger",
    "RemoteMonitor",
]
