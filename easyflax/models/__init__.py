"""Models: any module with `compile`, `fit`, `evaluate` and `predict`."""

from easyflax.models.cloning import clone_model
from easyflax.models.model import Model
from easyflax.models.sequential import Sequential

__all__ = ["Model", "Sequential", "clone_model"]
