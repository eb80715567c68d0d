"""Optimizers under Keras's names over optax, and `get`, which finds them by name."""

from __future__ import annotations

from easyflax.optimizers import schedules as schedules
from easyflax.optimizers.adafactor import Adafactor as Adafactor
from easyflax.optimizers.adam import Adam as Adam
from easyflax.optimizers.adam import Adamax as Adamax
from easyflax.optimizers.adam import AdamW as AdamW
from easyflax.optimizers.adam import Lamb as Lamb
from easyflax.optimizers.adam import Nadam as Nadam
from easyflax.optimizers.base import Optimizer as Optimizer
from easyflax.optimizers.ftrl import Ftrl as Ftrl
from easyflax.optimizers.learning_rate import get_learning_rate as get_learning_rate
from easyflax.optimizers.learning_rate import set_learning_rate as set_learning_rate
from easyflax.optimizers.loss_scale import LossScaleOptimizer as LossScaleOptimizer
from easyflax.optimizers.loss_scale import loss_scale as loss_scale
from easyflax.optimizers.mean_squares import Adadelta as Adadelta
from easyflax.optimizers.mean_squares import Adagrad as Adagrad
from easyflax.optimizers.mean_squares import RMSprop as RMSprop
from easyflax.optimizers.momentum import SGD as SGD
from easyflax.optimizers.momentum import Lion as Lion
from easyflax.optimizers.multi_optimizer import MultiOptimizer as MultiOptimizer
from easyflax.optimizers.multi_optimizer import OptimizerMap as OptimizerMap
from easyflax.optimizers.muon import Muon as Muon
from easyflax.optimizers.optax_optimizer import OptaxOptimizer as OptaxOptimizer
from easyflax.optimizers.registry import deserialize as deserialize
from easyflax.optimizers.registry import get as get
from easyflax.optimizers.registry import serialize as serialize
from easyflax.optimizers.schedule_free import ScheduleFree as ScheduleFree
from easyflax.optimizers.schedule_free import ScheduleFreeAdamW as ScheduleFreeAdamW
from easyflax.optimizers.wrappers import finalized as finalized
from easyflax.optimizers.wrappers import with_average as with_average
from easyflax.optimizers.wrappers import with_clipping as with_clipping

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "OptaxOptimizer",
    "Optimizer",
    "OptimizerMap",
    "RMSprop",
    "ScheduleFree",
    "ScheduleFreeAdamW",
    "deserialize",
    "finalized",
    "get",
    "get_learning_rate",
    "loss_scale",
    "schedules",
    "serialize",
    "set_learning_rate",
    "with_average",
    "with_clipping",
]
