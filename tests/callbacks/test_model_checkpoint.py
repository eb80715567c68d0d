"""Keras's ModelCheckpoint as the oracle for what is saved when; real fits for what comes back."""

import contextlib
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

from pathlib import Path

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.callbacks import Callback, ModelCheckpoint
from easyflax.checkpoint import checkpoints_in, newest
from easyflax.errors import CheckpointError
from easyflax.models import Model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


class OurModel:
    """What ModelCheckpoint uses of a model."""

    metrics = ()
    step = 0
    stop_training = False

    value = 1.0

    def state_to_save(self, *, weights_only=False):
        return {"params": {"w": jnp.full(1, self.value)}}, None

    def averages_in_place(self):
        return contextlib.nullcontext()

    def save_weights(self, path):
        Path(path).write_text("")


class KerasModel:
    metrics = ()

    def save(self, path, overwrite):
        Path(path).write_text("")

    save_weights = save


def _run(callback, model, epochs, batches, folder, losses):
    """Calls the hooks of a fit; returns what is in the folder after each epoch."""
    callback.set_model(model)
    callback.on_train_begin({})
    seen = []
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch, {})
        for batch in range(batches):
            callback.on_train_batch_end(batch, {"loss": losses[epoch] + batch})
        callback.on_epoch_end(epoch, {"loss": losses[epoch], "val_loss": 2 * losses[epoch]})
        if isinstance(callback, ModelCheckpoint):
            callback._writer.wait()
        seen.append(sorted(path.name for path in folder.iterdir()))
    callback.on_train_end({})
    return seen


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("{epoch:02d}-{val_loss:.2f}.keras", {}),
        ("{epoch}.keras", {"save_best_only": True}),
        ("{epoch}.keras", {"save_best_only": True, "monitor": "loss", "mode": "max"}),
        ("{epoch}.keras", {"save_best_only": True, "initial_value_threshold": 1.5}),
        ("{epoch}-{batch}-{loss:.1f}.keras", {"save_freq": 3}),
        ("{epoch}-{batch}.keras", {"save_freq": 4, "save_best_only": True, "monitor": "loss"}),
        ("{epoch}.weights.h5", {"save_freq": 4, "save_weights_only": True}),
        ("last.keras", {}),
    ],
)
def test_the_same_names_are_left_after_each_epoch_as_by_keras(tmp_path, name, arguments):
    losses = [2.0, 1.0, 1.5, 0.5, 0.75]
    left = []
    for kind, model in [(ModelCheckpoint, OurModel()), (keras.callbacks.ModelCheckpoint, KerasModel())]:
        folder = tmp_path / kind.__module__
        folder.mkdir()
        left.append(_run(kind(folder / name, **arguments), model, 5, 5, folder, losses))
    assert left[0] == left[1]
    assert left[0][-1]


def _model(seed=0, width=4):
    rngs = nnx.Rngs(seed)
    model = Model(
        nnx.Sequential(
            nnx.Linear(3, width, rngs=rngs),
            nnx.BatchNorm(width, rngs=rngs),
            nnx.Dropout(0.3, rngs=rngs),
            nnx.Linear(width, 1, rngs=rngs),
        )
    )
    model.compile(optimizer="adam", loss="mse")
    return model


def _fit(model, **arguments):
    return model.fit(X, Y, batch_size=7, verbose=0, **arguments)


def _plain(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _assert_equal(state, expected):
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
        np.testing.assert_array_equal(_plain(got), _plain(want))


@pytest.mark.slow
def test_a_restored_model_trains_on_bit_for_bit(tmp_path):
    whole = _model()
    expected = _fit(whole, epochs=4).history["loss"]

    first = _model()
    _fit(first, epochs=2, callbacks=[ModelCheckpoint(tmp_path / "run")])
    resumed = _model(seed=7)
    resumed.load_checkpoint(tmp_path / "run")
    _assert_equal(resumed.get_state(), first.get_state())
    assert newest(tmp_path / "run").step == 8
    history = _fit(resumed, initial_epoch=2, epochs=4)
    assert history.history["loss"] == expected[2:]
    _assert_equal(resumed.get_state(), whole.get_state())


def test_a_checkpoint_within_an_epoch_holds_the_state_of_that_step(tmp_path):
    states = {}

    class Watch(Callback):
        def on_train_batch_end(self, batch, logs=None):
            states[self.model.step] = jax.tree.map(_plain, self.model.get_state())

    model = _model()
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=3)
    _fit(model, epochs=2, callbacks=[checkpoint, Watch()])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["1-3", "2-2"]
    for name, step in zip(names, (3, 6)):
        saved = newest(tmp_path / name)
        assert saved.step == step
        _assert_equal(jax.tree.map(_plain, saved.restore(model.get_state())), states[step])


def test_weights_alone_suit_a_model_with_another_optimizer(tmp_path):
    model = _model()
    _fit(model, epochs=1, callbacks=[ModelCheckpoint(tmp_path, save_weights_only=True)])
    other = _model(seed=3)
    other.compile(optimizer="sgd", loss="mae")
    other.load_checkpoint(tmp_path)
    _assert_equal(other.get_state(weights_only=True), model.get_state(weights_only=True))
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    _fit(_model(), epochs=1, callbacks=[ModelCheckpoint(tmp_path)])
    with pytest.raises(
        CheckpointError, match=r"is float32\[3, 4\], not float32\[3, 5\].*expected the arrays of this"
    ):
        _model(width=5).load_checkpoint(tmp_path)


@pytest.mark.parametrize(("keep", "left"), [(None, ["000004-step4"]), (2, ["000003-step3", "000004-step4"])])
def test_one_name_keeps_the_last_or_as_many_as_asked(tmp_path, keep, left):
    model = OurModel()
    callback = ModelCheckpoint(tmp_path / "run", keep_last=keep)
    callback.set_model(model)
    callback.on_train_begin({})
    for epoch in range(4):
        model.step = epoch + 1
        callback.on_epoch_end(epoch, {})
    callback.on_train_end({})
    assert [path.name for path in checkpoints_in(tmp_path / "run")] == left


def test_keep_last_counts_over_names(tmp_path):
    callback = ModelCheckpoint(tmp_path / "{epoch}", keep_last=2, save_best_only=True, monitor="loss")
    seen = _run(callback, OurModel(), 5, 0, tmp_path, [5.0, 4.0, 4.5, 3.0, 2.0])
    assert seen == [["1"], ["1", "2"], ["1", "2"], ["2", "4"], ["4", "5"]]


def test_a_second_fit_into_the_same_folder_is_the_newest(tmp_path):
    callback = ModelCheckpoint(tmp_path, keep_last=3)
    for seed in range(2):
        model = _model(seed)
        _fit(model, epochs=1, callbacks=[callback])
    assert [path.name for path in checkpoints_in(tmp_path)] == ["000001-step4", "000002-step4"]
    _assert_equal(newest(tmp_path).restore(model.get_state()), model.get_state())


def test_a_state_that_is_not_finite_is_not_saved_and_the_last_good_one_stays(tmp_path):
    callback, model = ModelCheckpoint(tmp_path), OurModel()
    callback.set_model(model)
    callback.on_train_begin({})
    callback.on_epoch_end(0, {})
    model.value = jnp.nan
    callback.on_epoch_end(1, {})
    with pytest.warns(
        UserWarning, match="was not kept: NaN or infinite values in params/w, expected finite ones"
    ):
        callback.on_train_end({})
    np.testing.assert_array_equal(newest(tmp_path).restore({"params": {"w": jnp.zeros(1)}})["params"]["w"], 1)


class Fail(Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("the user's own")


def test_the_pending_save_is_finished_when_an_exception_ends_the_run(tmp_path):
    with pytest.raises(RuntimeError, match="the user's own"):
        _fit(_model(), epochs=2, callbacks=[ModelCheckpoint(tmp_path), Fail()])
    assert newest(tmp_path).step == 4


class FailWithin(Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise RuntimeError("the user's own")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "callbacks", "step"),
    [
        (True, [Fail], 4),
        (False, [Fail], None),
        (True, [FailWithin], 2),
        (False, [FailWithin], 2),
    ],
    ids=["epoch-saved-before", "epoch-saved-after", "batch-saved-before", "batch-saved-after"],
)
def test_a_callback_that_raises_leaves_a_whole_checkpoint_behind(tmp_path, first, callbacks, step):
    save = ModelCheckpoint(tmp_path, save_freq=2 if callbacks == [FailWithin] else "epoch")
    failing = [make() for make in callbacks]
    model = _model()
    with pytest.raises(RuntimeError, match="the user's own"):
        _fit(model, epochs=2, callbacks=[save, *failing] if first else [*failing, save])
    if step is None:
        assert checkpoints_in(tmp_path) == []
        return
    assert newest(tmp_path).step == step
    history = _fit(_model(seed=2), epochs=2, resume_from=tmp_path).history
    assert history == _fit(_model(), epochs=2).history


def test_a_failed_save_does_not_hide_the_exception_that_ended_the_run(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("easyflax.checkpoint.writer.write_manifest", full)
    with pytest.raises(RuntimeError, match="the user's own") as caught:
        _fit(_model(), epochs=2, callbacks=[ModelCheckpoint(tmp_path), Fail()])
    assert "No space left" in " ".join(caught.value.__notes__)


def test_a_fit_that_validates_now_and_then_saves_the_best_of_these_epochs(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}", save_best_only=True)
    model = Model(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    model.compile(optimizer="sgd", loss="mse")
    history = _fit(model, epochs=4, callbacks=[checkpoint], validation_data=(X, Y), validation_freq=2)
    assert len(history.history["val_loss"]) == 2
    assert {path.name for path in tmp_path.iterdir()} <= {"2", "4"}
    assert (tmp_path / "2").exists()


def test_a_full_disk_is_reported_at_the_next_save(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("easyflax.checkpoint.writer.write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        _run(ModelCheckpoint(tmp_path / "run"), OurModel(), 2, 0, tmp_path, [1.0, 1.0])


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("file", "file/run", "file/{epoch}"):
        with pytest.raises(OSError, match=r"ModelCheckpoint: the folder .* cannot be written .*expected one"):
            _fit(_model(), epochs=1, callbacks=[ModelCheckpoint(tmp_path / path)])


def test_a_name_that_no_log_has_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(
        ValueError, match=r"Unknown name in filepath 'val_los': expected one of 'epoch', 'loss'"
    ):
        _fit(_model(), epochs=1, callbacks=[ModelCheckpoint(tmp_path / "{val_los:.2f}")])


def test_an_unknown_monitor_is_refused_when_only_the_best_is_saved(tmp_path):
    callback = ModelCheckpoint(tmp_path, monitor="val_acc", save_best_only=True)
    with pytest.raises(
        ValueError, match="ModelCheckpoint: Unknown monitor 'val_acc': expected one of 'loss'"
    ):
        _fit(_model(), epochs=1, callbacks=[callback])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_freq": 0}, "save_freq is 0, expected 'epoch' or a number of batches of at least one"),
        ({"save_freq": "batch"}, "save_freq is 'batch', expected 'epoch'"),
        ({"save_freq": True}, "save_freq is True, expected 'epoch'"),
        ({"keep_last": 0}, "keep_last is 0, expected None or a number of at least one"),
        ({"mode": "best"}, "ModelCheckpoint: Unknown mode 'best'"),
    ],
)
def test_arguments_without_meaning_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ModelCheckpoint("run", **arguments)
    with pytest.raises(ValueError, match=r"expected '}'|Single '}'"):
        ModelCheckpoint("run-{epoch")


@pytest.mark.parametrize("ending", ["weights.h5", "h5", "safetensors"])
def test_weights_go_into_the_file_that_load_weights_reads(tmp_path, ending):
    model = _model()
    path = tmp_path / "deep" / f"best-{{epoch}}.{ending}"
    best = ModelCheckpoint(path, "loss", save_best_only=True, save_weights_only=True, mode="max")
    _fit(model, epochs=1, callbacks=[best])
    other = _model(seed=3)
    other.load_weights(tmp_path / "deep" / f"best-1.{ending}")
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == [f"best-1.{ending}"]


def test_a_file_that_cannot_be_written_is_an_error_before_training(tmp_path):
    (tmp_path / "run.weights.h5").mkdir()
    with pytest.raises(OSError, match=r"ModelCheckpoint: the file '.*run.weights.h5' cannot be written"):
        _fit(
            _model(),
            epochs=1,
            callbacks=[ModelCheckpoint(tmp_path / "run.weights.h5", save_weights_only=True)],
        )


@pytest.mark.parametrize(
    ("name", "weights_only"), [("{epoch}.weights.h5", True), ("{epoch}", False), ("{epoch}", True)]
)
def test_some_are_kept_for_good_besides_the_last(tmp_path, name, weights_only):
    arguments = {"save_weights_only": weights_only, "keep_last": 2, "keep_every": 3}
    seen = _run(ModelCheckpoint(tmp_path / name, **arguments), OurModel(), 7, 0, tmp_path, [1.0] * 7)
    left = [[name.split(".")[0] for name in names] for names in seen]
    assert list(map("".join, left)) == ["1", "12", "23", "34", "345", "356", "367"]


def test_some_are_kept_for_good_in_one_folder(tmp_path):
    callback = ModelCheckpoint(tmp_path / "run", keep_every=2)
    _run(callback, OurModel(), 5, 0, tmp_path, [1.0] * 5)
    names = [path.name.split("-")[0] for path in checkpoints_in(tmp_path / "run")]
    assert names == ["000002", "000004", "000005"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("cut", range(1, 5))
@pytest.mark.parametrize("save_freq", ["epoch", 3])
def test_a_callback_with_the_state_of_another_goes_on_with_its_decisions(tmp_path, cut, save_freq):
    losses = [2.0, 1.0, 1.5, 0.5, 0.75]
    arguments = {
        "save_best_only": True,
        "monitor": "loss",
        "mode": "min",
        "save_freq": save_freq,
        "keep_last": 2,
    }

    def run(callback, folder, epochs):
        for epoch in epochs:
            callback.on_epoch_begin(epoch, {})
            for batch in range(4):
                if save_freq != "epoch":
                    callback.on_train_batch_end(batch, {"loss": losses[epoch] - batch})
            callback.on_epoch_end(epoch, {"loss": losses[epoch]})
        callback.on_train_end({})
        return sorted(path.name for path in folder.iterdir())

    def make(folder):
        callback = ModelCheckpoint(folder / "{epoch}", **arguments)
        callback.set_model(OurModel())
        callback.on_train_begin({})
        return callback

    expected = run(make(tmp_path / "whole"), tmp_path / "whole", range(5))
    first = make(tmp_path / "cut")
    run(first, tmp_path / "cut", range(cut))
    second = make(tmp_path / "cut")
    second.load_state_dict(first.state_dict())
    assert run(second, tmp_path / "cut", range(cut, 5)) == expected


def test_the_batch_hook_is_there_only_for_those_who_save_after_batches():
    def overrides(callback):
        return getattr(callback.on_train_batch_end, "__func__", None) is not Callback.on_train_batch_end

    assert overrides(ModelCheckpoint("run", save_freq=2))
    assert not overrides(ModelCheckpoint("run"))


def test_verbose_says_what_is_saved_and_why(tmp_path, capsys):
    callback = ModelCheckpoint(tmp_path / "{epoch}", monitor="loss", save_best_only=True, verbose=1)
    _run(callback, OurModel(), 2, 0, tmp_path, [1.0, 2.0])
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1: loss improved from nothing to 1.00000",
        f"Epoch 1: saving model to {tmp_path / '1'}",
        "Epoch 2: loss of 2.00000 did not improve on 1.00000",
    ]
