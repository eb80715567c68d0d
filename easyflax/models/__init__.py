"""Models: any module with `compile`, `fit`, `evaluate` and `predict`."""

from easyflax.models.model import Model
from easyflax.models.sequential import Sequential

__all__ = ["Model", "Sequential"]
