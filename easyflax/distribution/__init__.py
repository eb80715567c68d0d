"""Where arrays live: the mesh of devices, and how batches and training state are laid out over it."""

from easyflax.distribution.data_parallel import DataParallel
from easyflax.distribution.fsdp import FSDP

__all__ = ["FSDP", "DataParallel"]
