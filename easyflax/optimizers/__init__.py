"""Optimizers under Keras's names over optax, and `get`, which finds them by name."""

from __future__ import annotations

from easyflax.optimizers.algorithms import SGD as SGD
from easyflax.optimizers.algorithms import Adadelta as Adadelta
from easyflax.optimizers.algorithms import Adagrad as Adagrad
from easyflax.optimizers.algorithms import Adam as Adam
from easyflax.optimizers.algorithms import Adamax as Adamax
from easyflax.optimizers.algorithms import AdamW as AdamW
from easyflax.optimizers.algorithms import Lamb as Lamb
from easyflax.optimizers.algorithms import Lion as Lion
from easyflax.optimizers.algorithms import Nadam as Nadam
from easyflax.optimizers.algorithms import RMSprop as RMSprop
from easyflax.optimizers.base import Optimizer as Optimizer
from easyflax.optimizers.learning_rate import get_learning_rate as get_learning_rate
from easyflax.optimizers.learning_rate import set_learning_rate as set_learning_rate
from easyflax.optimizers.registry import get as get

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lamb",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "get",
    "get_learning_rate",
    "set_learning_rate",
]
