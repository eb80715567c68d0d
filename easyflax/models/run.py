"""`Run`: what a model keeps about its training."""

from __future__ import annotations

from typing import Any

from easyflax.models.by_structure import ByStructure
from easyflax.models.compiled import Compiled
from easyflax.models.optimizer_home import OptimizerHome
from easyflax.train.history import History
from easyflax.train.inference import InferenceSteps

__all__ = ["Run"]


class Run:
    """What a model keeps about its training: no part of its structure, copies begin without.

    Attributes:
        stop_training: see `Trainer`.
        history: see `Trainer`.
        compiled: what `compile` made, or None.
        home: where it keeps the state of the optimizer, or None.
        predict_steps: by structure.
        input_specs: shapes and dtypes of the last inputs.
        is_building: whether the model's own `build` is running.
    """

    def __init__(self) -> None:
        self.stop_training = False
        self.history: History | None = None
        self.compiled: Compiled | None = None
        self.home: OptimizerHome | None = None
        self.predict_steps = ByStructure[InferenceSteps]()
        self.input_specs: Any = None
        self.is_building = False
