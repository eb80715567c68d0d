"""Ready-made callbacks, and `Callback`, from which to derive one's own."""

from __future__ import annotations

from easyflax.callbacks.averaging import ExponentialMovingAverage as ExponentialMovingAverage
from easyflax.callbacks.averaging import SwapEMAWeights as SwapEMAWeights
from easyflax.callbacks.backup_and_restore import BackupAndRestore as BackupAndRestore
from easyflax.callbacks.batch_size_finder import BatchSizeFinder as BatchSizeFinder
from easyflax.callbacks.csv_logger import CSVLogger as CSVLogger
from easyflax.callbacks.device_stats import DeviceStats as DeviceStats
from easyflax.callbacks.early_stopping import EarlyStopping as EarlyStopping
from easyflax.callbacks.gradient_accumulation import GradientAccumulation as GradientAccumulation
from easyflax.callbacks.gradient_norm import GradientNorm as GradientNorm
from easyflax.callbacks.hooks import on_batch_begin as on_batch_begin
from easyflax.callbacks.hooks import on_batch_end as on_batch_end
from easyflax.callbacks.hooks import on_epoch_begin as on_epoch_begin
from easyflax.callbacks.hooks import on_epoch_end as on_epoch_end
from easyflax.callbacks.hooks import on_exception as on_exception
from easyflax.callbacks.hooks import on_predict_batch_begin as on_predict_batch_begin
from easyflax.callbacks.hooks import on_predict_batch_end as on_predict_batch_end
from easyflax.callbacks.hooks import on_predict_begin as on_predict_begin
from easyflax.callbacks.hooks import on_predict_end as on_predict_end
from easyflax.callbacks.hooks import on_test_batch_begin as on_test_batch_begin
from easyflax.callbacks.hooks import on_test_batch_end as on_test_batch_end
from easyflax.callbacks.hooks import on_test_begin as on_test_begin
from easyflax.callbacks.hooks import on_test_end as on_test_end
from easyflax.callbacks.hooks import on_train_batch_begin as on_train_batch_begin
from easyflax.callbacks.hooks import on_train_batch_end as on_train_batch_end
from easyflax.callbacks.hooks import on_train_begin as on_train_begin
from easyflax.callbacks.hooks import on_train_end as on_train_end
from easyflax.callbacks.json_logger import JSONLogger as JSONLogger
from easyflax.callbacks.lambda_callback import LambdaCallback as LambdaCallback
from easyflax.callbacks.learning_rate import LearningRateMonitor as LearningRateMonitor
from easyflax.callbacks.learning_rate import LearningRateScheduler as LearningRateScheduler
from easyflax.callbacks.learning_rate import ReduceLROnPlateau as ReduceLROnPlateau
from easyflax.callbacks.learning_rate_finder import LearningRateFinder as LearningRateFinder
from easyflax.callbacks.learning_rate_schedule import LearningRateSchedule as LearningRateSchedule
from easyflax.callbacks.learning_rate_schedule import OneCycle as OneCycle
from easyflax.callbacks.learning_rate_schedule import WarmupCosine as WarmupCosine
from easyflax.callbacks.mlflow_logger import MLflowLogger as MLflowLogger
from easyflax.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from easyflax.callbacks.model_summary import ModelSummary as ModelSummary
from easyflax.callbacks.nan_hunt import NaNHunt as NaNHunt
from easyflax.callbacks.orbax_checkpoint import OrbaxCheckpoint as OrbaxCheckpoint
from easyflax.callbacks.profiler import Profiler as Profiler
from easyflax.callbacks.progress_bars import ProgressBar as ProgressBar
from easyflax.callbacks.progress_bars import RichProgressBar as RichProgressBar
from easyflax.callbacks.remote_monitor import RemoteMonitor as RemoteMonitor
from easyflax.callbacks.stochastic_weight_averaging import (
    StochasticWeightAveraging as StochasticWeightAveraging,
)
from easyflax.callbacks.stopping import StopAtValue as StopAtValue
from easyflax.callbacks.stopping import TerminateOnNaN as TerminateOnNaN
from easyflax.callbacks.stopping import Timer as Timer
from easyflax.callbacks.tensorboard import TensorBoard as TensorBoard
from easyflax.callbacks.throughput_monitor import ThroughputMonitor as ThroughputMonitor
from easyflax.callbacks.wandb_logger import WandbLogger as WandbLogger
from easyflax.train.additions import StepAddition as StepAddition
from easyflax.train.additions import Update as Update
from easyflax.train.callback import Callback as Callback
from easyflax.train.callback_list import CallbackList as CallbackList
from easyflax.train.history import History as History
from easyflax.train.plan import Plan as Plan
from easyflax.train.progress import Progress as ProgbarLogger

__all__ = [
    "BackupAndRestore",
    "BatchSizeFinder",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "DeviceStats",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "GradientAccumulation",
    "GradientNorm",
    "History",
    "JSONLogger",
    "LambdaCallback",
    "LearningRateFinder",
    "LearningRateMonitor",
    "LearningRateSchedule",
    "LearningRateScheduler",
    "MLflowLogger",
    "ModelCheckpoint",
    "ModelSummary",
    "NaNHunt",
    "OneCycle",
    "OrbaxCheckpoint",
    "Plan",
    "Profiler",
    "ProgbarLogger",
    "ProgressBar",
    "ReduceLROnPlateau",
    "RemoteMonitor",
    "RichProgressBar",
    "StepAddition",
    "StochasticWeightAveraging",
    "StopAtValue",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
    "ThroughputMonitor",
    "Timer",
    "Update",
    "WandbLogger",
    "WarmupCosine",
    "on_batch_begin",
    "on_batch_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_exception",
    "on_predict_batch_begin",
    "on_predict_batch_end",
    "on_predict_begin",
    "on_predict_end",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_test_begin",
    "on_test_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_train_begin",
    "on_train_end",
]
