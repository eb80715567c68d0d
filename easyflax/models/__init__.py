"""Models: any module with `compile`, `fit`, `evaluate` and `predict`."""

from easyflax.models.cloning import clone_model
from easyflax.models.model import Model
from easyflax.models.sequential import Sequential
from easyflax.models.step_profile import StepProfile

__all__ = ["Model", "Sequential", "StepProfile", "clone_model"]
