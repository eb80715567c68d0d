"""Helpers under the names that they have in `keras.utils`."""

from __future__ import annotations

import typing as _typing

from easyflax.backend import clear_session as clear_session
from easyflax.backend import is_keras_tensor as is_keras_tensor
from easyflax.backend import standardize_dtype as standardize_dtype
from easyflax.data.py_dataset import PyDataset as PyDataset
from easyflax.data.unpack import pack_x_y_sample_weight as pack_x_y_sample_weight
from easyflax.data.unpack import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from easyflax.lazy import lazily as _lazily
from easyflax.random import set_random_seed as set_random_seed
from easyflax.serialization import CustomObjectScope as CustomObjectScope
from easyflax.serialization import custom_object_scope as custom_object_scope
from easyflax.serialization import deserialize as deserialize_keras_object
from easyflax.serialization import get_custom_objects as get_custom_objects
from easyflax.serialization import get_registered_name as get_registered_name
from easyflax.serialization import get_registered_object as get_registered_object
from easyflax.serialization import register_keras_serializable as register_keras_serializable
from easyflax.serialization import serialize as serialize_keras_object
from easyflax.utils.arrays import normalize as normalize
from easyflax.utils.arrays import to_categorical as to_categorical
from easyflax.utils.images import array_to_img as array_to_img
from easyflax.utils.images import img_to_array as img_to_array
from easyflax.utils.images import load_img as load_img
from easyflax.utils.images import save_img as save_img
from easyflax.utils.sequences import pad_sequences as pad_sequences
from easyflax.utils.timeseries import timeseries_dataset_from_array as timeseries_dataset_from_array

Sequence = PyDataset  # its name in Keras 2

if _typing.TYPE_CHECKING:
    from easyflax.utils.plotting import model_to_dot as model_to_dot
    from easyflax.utils.plotting import plot_model as plot_model

__all__ = [
    "CustomObjectScope",
    "PyDataset",
    "Sequence",
    "array_to_img",
    "clear_session",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "img_to_array",
    "is_keras_tensor",
    "load_img",
    "model_to_dot",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "save_img",
    "serialize_keras_object",
    "set_random_seed",
    "standardize_dtype",
    "timeseries_dataset_from_array",
    "to_categorical",
    "unpack_x_y_sample_weight",
]

# Pictures of models need models, which are slow to import.
__getattr__, __dir__ = _lazily(
    __name__, modules=(), names={"model_to_dot": "plotting", "plot_model": "plotting"}
)
