"""Fit on data of several kinds, against Keras: the same weights at first, the same History."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import functools

import grain
import keras
import numpy as np
import pytest

import easyflax

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype("float32")
Y = (X.sum(1) > 0).astype("int32")
WEIGHT = RNG.uniform(size=50).astype("float32")
START = [RNG.normal(size=(4, 3)).astype("float32") * 0.5, np.zeros(3, "float32")]


def _endless():
    while True:
        for begin in range(0, 50, 10):
            yield X[begin : begin + 10], Y[begin : begin + 10], WEIGHT[begin : begin + 10]


def _numbered(library):
    class Numbered(library.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return X[index * 10 : index * 10 + 10], Y[index * 10 : index * 10 + 10]

    return Numbered()


def _grain():
    return grain.MapDataset.source(list(zip(X, Y))).shuffle(seed=1).batch(8)


def _frames():
    pandas = pytest.importorskip("pandas")
    return {"x": pandas.DataFrame(X, columns=list("abcd")), "y": pandas.Series(Y), "batch_size": 16}


def _torch():
    torch = pytest.importorskip("torch")
    data = pytest.importorskip("torch.utils.data")
    return {"x": data.DataLoader(data.TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=8)}


KINDS = {
    "sample weights": lambda library: {"x": X, "y": Y, "sample_weight": WEIGHT, "validation_split": 0.2},
    "class weights": lambda library: {"x": X, "y": Y, "class_weight": {1: 3.0}, "batch_size": 16},
    "steps": lambda library: {"x": X, "y": Y, "steps_per_epoch": 3},
    "weighted validation": lambda library: {"x": X, "y": Y, "validation_data": (X, Y, WEIGHT)},
    "generator": lambda library: {"x": _endless(), "steps_per_epoch": 3},
    "PyDataset": lambda library: {"x": _numbered(library), "class_weight": {0: 0.5}},
    "grain": lambda library: {"x": _grain(), "validation_data": _grain()},
    "pandas": lambda library: _frames(),
    "torch": lambda library: _torch(),
}


@functools.cache
def _model(library):
    model = library.Sequential([library.Input((4,)), library.layers.Dense(3)])
    loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=library.optimizers.SGD(0.1), loss=loss, metrics=["accuracy"])
    return model


def _history(library, make_data):
    _model(library).set_weights(START)
    return _model(library).fit(**make_data(library), epochs=2, shuffle=False, verbose=0).history


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # of Keras, for datasets without length
@pytest.mark.parametrize("kind", KINDS)
def test_training_on_any_kind_of_data_goes_as_in_keras(kind):
    ours, theirs = (_history(library, KINDS[kind]) for library in (easyflax, keras))
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-5, err_msg=name)
