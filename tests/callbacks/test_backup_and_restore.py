"""Interrupted fits that begin again, against uninterrupted ones."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

from easyflax import layers
from easyflax.callbacks import BackupAndRestore, Callback, ModelCheckpoint
from easyflax.checkpoint import checkpoints_in
from easyflax.checkpoint.manifest import MANIFEST
from easyflax.errors import CheckpointError
from easyflax.models import Sequential

X = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
WEIGHTS = [np.ones((3, 1), "float32"), np.zeros(1, "float32")]


def make_model(framework=layers, sequential=Sequential):
    model = sequential([framework.Input((3,)), framework.Dropout(0.2, seed=1), framework.Dense(1)])
    model.set_weights(WEIGHTS)
    model.compile("adam", "mse")
    return model


def fit(model, *callbacks, **arguments):
    return model.fit(
        X, Y, **{"batch_size": 3, "epochs": 4, "verbose": 0, **arguments}, callbacks=[*callbacks]
    )


def interrupting(base, hook, epoch, batch=0):
    """Returns a callback that raises once, and notes the epochs that begin."""

    class Interrupt(base):
        def __init__(self):
            super().__init__()
            self.begun, self.is_done = [], False

        def on_epoch_begin(self, number, logs=None):
            self.begun.append(number)
            self.maybe("on_epoch_begin", 0)

        def on_train_batch_end(self, number, logs=None):
            self.maybe("on_train_batch_end", number)

        def on_epoch_end(self, number, logs=None):
            self.maybe("on_epoch_end", 0)

        def maybe(self, name, number):
            if not self.is_done and (name, self.begun[-1], number) == (hook, epoch, batch):
                self.is_done = True
                raise RuntimeError("interrupted")

    return Interrupt()


@pytest.mark.slow
@pytest.mark.sampled(2)
# Keras converts its variables in a manner that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("hook", "order"),
    [("on_epoch_begin", 1), ("on_epoch_end", 1), ("on_epoch_end", -1), ("on_train_batch_end", 1)],
    ids=["begin", "end-saved-before", "end-saved-after", "batch"],
)
def test_the_same_epochs_are_run_again_as_in_keras(tmp_path, hook, order):
    begun = []
    for name, framework, sequential, backup, base in [
        ("ours", layers, Sequential, BackupAndRestore, Callback),
        ("keras", keras.layers, keras.Sequential, keras.callbacks.BackupAndRestore, keras.callbacks.Callback),
    ]:
        interrupt = interrupting(base, hook, 2)
        callbacks = [backup(str(tmp_path / name)), interrupt][::order]
        with pytest.raises(RuntimeError, match="interrupted"):
            fit(make_model(framework, sequential), *callbacks)
        fit(make_model(framework, sequential), *callbacks)
        begun.append(interrupt.begun)
        assert not (tmp_path / name).exists()
    assert begun[0] == begun[1]


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("batch", range(4))
@pytest.mark.parametrize("double", [False, True])
def test_a_run_that_begins_again_ends_as_if_it_had_not_stopped(tmp_path, batch, double):
    whole = make_model()
    expected = fit(whole).history
    interrupt = interrupting(Callback, "on_train_batch_end", 2, batch)
    arguments = {"save_freq": 2, "double_checkpoint": double}
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(make_model(), BackupAndRestore(tmp_path / "backup", **arguments), interrupt)
    assert len(checkpoints_in(tmp_path / "backup")) == 1 + double
    model = make_model()
    assert fit(model, BackupAndRestore(tmp_path / "backup", **arguments)).history == expected
    for got, want in zip(model.get_weights(), whole.get_weights()):
        np.testing.assert_array_equal(got, want)


def test_a_backup_can_be_kept_and_is_then_the_end(tmp_path):
    model = make_model()
    expected = fit(model, BackupAndRestore(tmp_path, delete_checkpoint=False)).history
    again = make_model()
    history = fit(again, BackupAndRestore(tmp_path, delete_checkpoint=False))
    assert history.history == expected
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
    more = fit(make_model(), BackupAndRestore(tmp_path), epochs=5)
    assert (more.epoch, more.history["loss"][:4]) == ([0, 1, 2, 3, 4], expected["loss"])


@pytest.mark.slow
def test_a_damaged_backup_is_passed_over_for_the_one_before(tmp_path):
    expected = fit(make_model()).history
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(
            make_model(),
            BackupAndRestore(tmp_path, double_checkpoint=True),
            interrupting(Callback, "on_epoch_begin", 3),
        )
    (checkpoints_in(tmp_path)[-1] / MANIFEST).write_text("{}")
    with pytest.warns(UserWarning, match="cannot be used: its MANIFEST.json was changed. Using 000002"):
        assert fit(make_model(), BackupAndRestore(tmp_path, double_checkpoint=True)).history == expected


def test_the_backup_of_another_model_is_refused(tmp_path):
    fit(make_model(), BackupAndRestore(tmp_path, delete_checkpoint=False), epochs=1)
    other = Sequential([layers.Input((3,)), layers.Dense(2), layers.Dense(1)])
    other.compile("adam", "mse")
    with pytest.raises(CheckpointError, match="expected the arrays of this model"):
        fit(other, BackupAndRestore(tmp_path))


@pytest.mark.slow
def test_a_backup_goes_before_the_run_that_was_begun_from(tmp_path):
    first = make_model()
    fit(first, ModelCheckpoint(tmp_path / "start"), epochs=1)
    expected = fit(make_model(), resume_from=tmp_path / "start").history
    backup, interrupt = BackupAndRestore(tmp_path / "backup"), interrupting(Callback, "on_epoch_begin", 2)
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(make_model(), backup, interrupt, resume_from=tmp_path / "start")
    assert fit(make_model(), backup, interrupt, resume_from=tmp_path / "start").history == expected
    assert interrupt.begun == [1, 2, 2, 3]


def test_arguments_without_meaning_are_refused(tmp_path):
    with pytest.raises(ValueError, match="backup_dir is empty, expected a folder"):
        BackupAndRestore("")
    with pytest.raises(ValueError, match="BackupAndRestore: save_freq is 'batch', expected 'epoch' or"):
        BackupAndRestore("backup", save_freq="batch")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"BackupAndRestore: the folder .* cannot be written"):
        fit(make_model(), BackupAndRestore(tmp_path / "file"))
