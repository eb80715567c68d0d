"""What fit reads, against Keras: batches of an epoch, weights of classes, and the helpers for data."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import grain
import jax
import keras
import numpy as np
import pytest
from keras.src.trainers.data_adapters.data_adapter_utils import class_weight_to_sample_weights
from keras.src.trainers.epoch_iterator import EpochIterator

from easyflax import utils
from easyflax.data import as_source
from easyflax.data.weights import weights_of_classes

ROWS = np.arange(11, dtype="float32")
LABELS = np.arange(11) % 3


class Numbers(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.full((2, 1), index, "float32"), np.full(2, index)


DATA = {
    "x": lambda: (ROWS,),
    "pair": lambda: (ROWS, LABELS),
    "triple": lambda: (ROWS, LABELS, ROWS * 2),
    "nested": lambda: ({"a": ROWS, "b": [ROWS, ROWS]}, (LABELS, ROWS), (ROWS, ROWS)),
    "PyDataset": lambda: (Numbers(),),
    "generator": lambda: ((batch for batch in [(ROWS[:4], LABELS[:4]), (ROWS[4:6], LABELS[4:6])]),),
    "grain": lambda: (grain.MapDataset.source(ROWS).shuffle(seed=3).map(lambda row: (row, row)).batch(4),),
}


def _keras_batches(data, **options):
    iterator = EpochIterator(*data, **options)
    for _, _, batches in iterator:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batches[0])
        yield [np.asarray(leaf) for leaf in jax.tree.leaves((x, y, weight))]


def _our_batches(data, **options):
    steps = options.pop("steps_per_epoch", None)
    for batch in as_source(*data, steps=steps, caller="evaluate", **options).epoch(0, steps):
        yield jax.tree.leaves(tuple(batch))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # which Keras says of every generator
@pytest.mark.parametrize("options", [{}, {"batch_size": 4}, {"steps_per_epoch": 2}], ids=str)
@pytest.mark.parametrize("name", DATA)
def test_an_epoch_has_the_batches_that_it_has_in_keras(name, options):
    if "batch_size" in options and name in ("PyDataset", "generator", "grain"):
        pytest.skip("Keras ignores what is refused here")
    ours, theirs = (list(make(DATA[name](), **options)) for make in (_our_batches, _keras_batches))
    assert len(ours) == len(theirs)
    for our_leaves, their_leaves in zip(ours, theirs):
        assert len(our_leaves) == len(their_leaves)
        for ours_, theirs_ in zip(our_leaves, their_leaves):
            np.testing.assert_array_equal(ours_, theirs_)


@pytest.mark.parametrize(
    "y",
    [LABELS, LABELS[:, None].astype("float32"), np.eye(4)[LABELS], LABELS * 0.9],
    ids=["labels", "column", "one-hot", "fractions"],
)
def test_weights_of_classes_are_those_of_keras(y):
    table = {0: 0.25, 2: 7.5}
    np.testing.assert_array_equal(weights_of_classes(y, table), class_weight_to_sample_weights(y, table))


@pytest.mark.parametrize(
    "options",
    [
        {"sequence_length": 3},
        {"sequence_length": 4, "sequence_stride": 2, "sampling_rate": 2, "batch_size": 3},
        {"sequence_length": 3, "start_index": 4, "end_index": 21, "batch_size": None},
        {"sequence_length": 2, "shuffle": True, "seed": 5, "batch_size": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("has_targets", [True, False])
def test_windows_over_a_series_are_those_of_keras(options, has_targets):
    series = np.arange(30)
    targets = series[3:] * 10 if has_targets else None
    make = (utils.timeseries_dataset_from_array, keras.utils.timeseries_dataset_from_array)
    ours, theirs = (list(function(series, targets, format="grain", **options)) for function in make)
    assert len(ours) == len(theirs)
    for our_batch, their_batch in zip(ours, theirs):
        for ours_, theirs_ in zip(jax.tree.leaves(our_batch), jax.tree.leaves(their_batch)):
            np.testing.assert_array_equal(ours_, np.asarray(theirs_))


@pytest.mark.parametrize("data", [(1,), (1, 2), (1, 2, 3), ([1, 2],), {"a": 1}, 5], ids=str)
def test_data_are_taken_apart_and_put_together_as_in_keras(data):
    parts = utils.unpack_x_y_sample_weight(data)
    assert parts == keras.utils.unpack_x_y_sample_weight(data)
    assert utils.pack_x_y_sample_weight(*parts) == keras.utils.pack_x_y_sample_weight(*parts)
