"""What `keras.preprocessing` still offers in Keras 3; the same functions are in `easyflax.utils`."""

from __future__ import annotations

from easyflax.preprocessing import image as image
from easyflax.preprocessing import sequence as sequence
from easyflax.utils.timeseries import timeseries_dataset_from_array as timeseries_dataset_from_array

__all__ = ["image", "sequence", "timeseries_dataset_from_array"]
