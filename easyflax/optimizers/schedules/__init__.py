"""Schedules under Keras's names: learning rates that follow the number of the step."""

from __future__ import annotations

from easyflax.optimizers.schedules.base import LearningRateSchedule as LearningRateSchedule
from easyflax.optimizers.schedules.base import deserialize as deserialize
from easyflax.optimizers.schedules.base import serialize as serialize
from easyflax.optimizers.schedules.cosine import CosineDecay as CosineDecay
from easyflax.optimizers.schedules.cosine import CosineDecayRestarts as CosineDecayRestarts
from easyflax.optimizers.schedules.decays import ExponentialDecay as ExponentialDecay
from easyflax.optimizers.schedules.decays import InverseTimeDecay as InverseTimeDecay
from easyflax.optimizers.schedules.decays import PiecewiseConstantDecay as PiecewiseConstantDecay
from easyflax.optimizers.schedules.decays import PolynomialDecay as PolynomialDecay

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]
