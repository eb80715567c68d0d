"""Numbered checkpoints in one folder."""

import inspect
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

from easyflax import layers
from easyflax.callbacks import OrbaxCheckpoint
from easyflax.checkpoint import checkpoints_in, newest
from easyflax.models import Sequential

X = np.arange(12, dtype="float32").reshape(6, 2) / 12
Y = X.sum(1, keepdims=True)


def make_model():
    model = Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def fit(model, *callbacks, **arguments):
    return model.fit(
        X, Y, **{"batch_size": 2, "epochs": 4, "verbose": 0, **arguments}, callbacks=[*callbacks]
    )


def test_arguments_are_those_of_keras():
    ours, theirs = (
        inspect.signature(one).parameters for one in (OrbaxCheckpoint, keras.callbacks.OrbaxCheckpoint)
    )
    assert [(name, one.default) for name, one in ours.items()] == [
        (name, one.default) for name, one in theirs.items()
    ]


@pytest.mark.parametrize(("keep", "left"), [(1, [12]), (2, [9, 12]), (None, [3, 6, 9, 12])])
def test_as_many_as_asked_are_kept(tmp_path, keep, left):
    model = make_model()
    fit(model, OrbaxCheckpoint(tmp_path / "{run}", max_to_keep=keep, save_on_background=keep != 1))
    steps = [int(path.name.split("step")[1]) for path in checkpoints_in(tmp_path / "{run}")]
    assert steps == left
    other = make_model()
    other.load_weights(tmp_path / "{run}")
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_save_in_the_foreground_is_complete_at_once(tmp_path):
    class See(OrbaxCheckpoint):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            seen.append(newest(tmp_path).step)

    seen = []
    fit(make_model(), See(tmp_path, save_on_background=False), epochs=2)
    assert seen == [3, 6]


def test_a_run_goes_on_from_the_newest(tmp_path):
    whole = make_model()
    whole.set_weights([np.ones((2, 1)), np.zeros(1)])
    weights = whole.get_weights()
    expected = fit(whole).history
    first = make_model()
    first.set_weights(weights)
    callback = OrbaxCheckpoint(tmp_path, save_freq=2, save_weights_only=False)
    fit(first, callback, epochs=2)
    callback.wait_until_finished()
    assert fit(make_model(), resume_from=tmp_path).history == expected


def test_arguments_without_meaning_are_refused():
    with pytest.raises(ValueError, match="OrbaxCheckpoint: max_to_keep is 0, expected None or a number"):
        OrbaxCheckpoint("run", max_to_keep=0)
    with pytest.raises(ValueError, match="OrbaxCheckpoint: save_freq is 'batch', expected 'epoch' or"):
        OrbaxCheckpoint("run", save_freq="batch")
