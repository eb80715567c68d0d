"""What callbacks see and what they can do, with Keras as the oracle for hooks and keys."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.nnx as nnx
from easyflax.distribution import DataParallel
from easyflax.models import Model, Sequential
from easyflax.train.callback import Callback

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 20, dtype=np.int32)


def _model(devices=1, learning_rate=0.1):
    model = Sequential([nnx.Linear(4, 3, rngs=nnx.Rngs(0))])
    model.compile(
        optax.inject_hyperparams(optax.sgd)(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        distribution=DataParallel(jax.devices()[:devices]),
    )
    return model


def _recorder(base, seen):
    """Returns a callback, of the kind `base`, that notes every hook, its position and its log names."""

    def hook(name):
        def note(self, *position, logs=None):
            if position and not isinstance(position[-1], int):
                *position, logs = position
            seen.append((name, *position, tuple(logs or ())))

        return note

    names = [f"on_{what}_{when}" for what in ("train", "test", "predict") for when in ("begin", "end")]
    names += [f"on_{what}_batch_{when}" for what in ("train", "test", "predict") for when in ("begin", "end")]
    names += ["on_epoch_begin", "on_epoch_end"]
    return type("Recorder", (base,), {name: hook(name) for name in names})()


def _use(model, callback):
    """Calls fit, evaluate and predict in one way for Keras and for us, and returns the keys of History."""
    history = model.fit(X, Y, 8, 2, 0, [callback], 0.25)
    model.evaluate(X, Y, batch_size=16, verbose=0, callbacks=[callback])
    model.predict(X, batch_size=16, verbose=0, callbacks=[callback])
    params = {name: history.params[name] for name in ("verbose", "epochs", "steps")}
    return list(history.history), history.epoch, params


@pytest.mark.slow
def test_hooks_positions_log_names_and_history_are_those_of_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    theirs = keras.Sequential([keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs.compile("sgd", loss, metrics=["accuracy"])
    seen_there, seen_here = [], []
    expected = _use(theirs, _recorder(keras.callbacks.Callback, seen_there))
    assert _use(_model(), _recorder(Callback, seen_here)) == expected
    assert seen_here == seen_there


def test_the_old_names_of_the_batch_hooks_are_called_too():
    seen = []

    class Old(Callback):
        def on_batch_begin(self, batch, logs=None):
            seen.append(("begin", batch))

        def on_batch_end(self, batch, logs=None):
            seen.append(("end", batch))

    _model().fit(X, Y, batch_size=10, verbose=0, callbacks=Old())
    assert seen == [("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]


def test_batch_logs_are_running_means_and_epoch_logs_floats_that_callbacks_share():
    batches, epochs = [], []

    class Add(Callback):
        def on_train_batch_end(self, batch, logs=None):
            batches.append(logs["loss"])

        def on_epoch_end(self, epoch, logs=None):
            assert all(type(value) is float for value in logs.values())
            logs["added"] = 1.5

    class See(Callback):
        def on_epoch_end(self, epoch, logs=None):
            epochs.append(logs["added"])

    history = _model(learning_rate=0.0).fit(X, Y, 5, shuffle=False, verbose=0, callbacks=[Add(), See()])
    model = _model()
    running = [model.evaluate(X[:stop], Y[:stop], verbose=0)[0] for stop in (5, 10, 15, 20)]
    assert batches == pytest.approx(running, rel=1e-6)
    assert epochs == history.history["added"] == [1.5]


def test_logs_may_be_read_long_after_their_step():
    kept = []

    class Keep(Callback):
        def on_train_batch_end(self, batch, logs=None):
            kept.append(logs)

    history = _model().fit(X, Y, batch_size=5, verbose=0, callbacks=Keep())
    assert kept[-1]["loss"] == history.history["loss"][0]
    assert len({logs["loss"] for logs in kept}) == 4


@pytest.mark.parametrize("devices", [1, 8])
def test_hooks_that_do_not_look_fetch_and_copy_nothing(devices, monkeypatch):
    class Ignore(Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

        def on_epoch_end(self, epoch, logs=None):
            pass

    fetched, copied = [], []
    device_get, copy_home = jax.device_get, DataParallel.copy_home
    monkeypatch.setattr(jax, "device_get", lambda tree: fetched.append(1) or device_get(tree))
    monkeypatch.setattr(
        DataParallel, "copy_home", lambda self, tree: copied.append(1) or copy_home(self, tree)
    )
    _model(devices).fit(X, Y, batch_size=5, epochs=3, verbose=0)
    alone = len(fetched)
    _model(devices).fit(X, Y, batch_size=5, epochs=3, verbose=0, callbacks=Ignore())
    assert len(fetched) == 2 * alone
    assert not copied


# -- weights


@pytest.mark.parametrize("devices", [1, 8])
def test_hooks_see_the_newest_weights_and_nothing_they_keep_is_deleted(devices):
    model, kept = _model(devices), []

    class Keep(Callback):
        def on_train_batch_end(self, batch, logs=None):
            kept.append((self.model.module.layers[0].kernel.value, self.model.predict(X[:2], verbose=0)))

    before = model.module.layers[0].kernel.value
    model.fit(X, Y, batch_size=7, epochs=2, verbose=0, callbacks=Keep())
    kernels = [np.asarray(kernel) for kernel, _ in kept]
    assert all(not np.array_equal(*pair) for pair in pairwise(kernels))
    assert np.array_equal(kernels[-1], model.module.layers[0].kernel.value)
    assert not before.is_deleted()
    bias = model.module.layers[0].bias.value
    np.testing.assert_allclose(kept[-1][1], X[:2] @ kernels[-1] + bias, rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(
    "hook", ["on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end"]
)
def test_a_weight_that_a_hook_changes_is_trained_on(devices, hook):
    class Zero(Callback):
        done = False

    def zero(self, *args):
        if not self.done:
            self.model.module.layers[0].kernel.value = jnp.zeros((4, 3))
        self.done = True

    setattr(Zero, hook, zero)
    model = _model(devices, learning_rate=0.0)
    history = model.fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=Zero())
    assert history.history["loss"][-1] == pytest.approx(np.log(3), rel=1e-6)
    assert not np.any(model.module.layers[0].kernel.value)


def test_a_weight_changed_at_epoch_end_is_evaluated_with_and_kept_at_the_end():
    class Zero(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.set_weights([np.full(3, 2.0), np.zeros((4, 3))])

        def on_epoch_end(self, epoch, logs=None):
            assert logs["val_loss"] == pytest.approx(np.log(3), rel=1e-6)
            self.model.set_weights([np.full(3, 5.0), np.zeros((4, 3))])

    model = _model()
    model.fit(X, Y, verbose=0, validation_data=(X, Y), callbacks=Zero())
    assert model.module.layers[0].bias.value.tolist() == [5, 5, 5]


@pytest.mark.parametrize("devices", [1, 8])
def test_a_changed_learning_rate_holds_from_the_next_step_on(devices):
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 0:
                self.model.optimizer.learning_rate = 0.0

    model, reference = _model(devices), _model(devices)
    model.fit(X, Y, batch_size=5, verbose=0, callbacks=Stop())
    reference.fit(X, Y, batch_size=5, verbose=0, steps_per_epoch=1)
    assert all(map(np.array_equal, model.get_weights(), reference.get_weights()))
    assert model.optimizer.learning_rate == 0.0
    assert model.optimizer.iterations == 4


# -- ends


@pytest.mark.parametrize(("hook", "steps"), [("on_train_batch_end", 1), ("on_epoch_end", 4)])
def test_stop_training_ends_after_the_batch_or_epoch(hook, steps):
    ended = []

    class Stop(Callback):
        def on_train_end(self, logs=None):
            ended.append(logs["loss"])

    setattr(Stop, hook, lambda self, index, logs=None: setattr(self.model, "stop_training", True))
    model = _model()
    history = model.fit(X, Y, batch_size=5, epochs=3, verbose=0, callbacks=Stop())
    assert model.step == steps
    assert history.epoch == [0]
    assert ended == history.history["loss"]
    model.fit(X, Y, batch_size=5, verbose=0)
    assert model.step == steps + 4


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_after_an_exception_the_model_holds_the_weights_of_the_last_step(devices, error):
    ended = []

    class Fail(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise error

        def on_train_end(self, logs=None):
            ended.append("end")

    told = []

    class Hear(Callback):
        def on_exception(self, exception):
            told.append((exception, self.model.get_weights()))
            raise OSError("disk full")

    model, reference = _model(devices), _model(devices)
    with pytest.raises(type(error)) as raised:
        model.fit(X, Y, batch_size=5, verbose=0, callbacks=[Fail(), Hear()])
    assert raised.value is error is told[0][0]
    assert "Hear.on_exception raised as well: OSError('disk full')" in error.__notes__[-1]
    assert all(map(np.array_equal, told[0][1], model.get_weights()))
    reference.fit(X, Y, batch_size=5, verbose=0, steps_per_epoch=2)
    assert not ended
    assert all(map(np.array_equal, model.get_weights(), reference.get_weights()))
    model.fit(X, Y, verbose=0)
    assert model.step == 3


def test_callbacks_know_whether_there_is_validation():
    seen = []

    class Note(Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.validates)

    _model().fit(X, Y, verbose=0, callbacks=Note())
    _model().fit(X, Y, verbose=0, callbacks=Note(), validation_split=0.2)
    assert seen == [False, True]


def test_fit_within_fit_is_an_error():
    class Again(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.fit(X, Y, verbose=0)

    model = _model()
    with pytest.raises(
        RuntimeError, match=r"fit was called within fit.*one at a time\. Train from a callback"
    ):
        model.fit(X, Y, verbose=0, callbacks=Again())
    assert np.isfinite(model.predict(X, verbose=0)).all()


def test_compile_within_fit_is_an_error():
    class Again(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.compile("sgd", "mse")

    with pytest.raises(RuntimeError, match=r"compile was called within fit.*expected after it\. Set what"):
        _model().fit(X, Y, verbose=0, callbacks=Again())


def test_a_structure_changed_within_fit_is_an_error():
    class Replace(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.module.layers[0].bias = nnx.Param(jnp.zeros(3))

    model = _model()
    message = r"'layers\.0\.bias' is another variable.*expected the one of then.*set its value"
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y, epochs=2, verbose=0, callbacks=Replace())
    model.fit(X, Y, verbose=0, callbacks=Replace())


def test_two_models_may_share_a_module():
    shared = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
    first, second = Model(shared), Model(shared)
    first.compile(optax.sgd(0.0), "mse")
    second.compile(optax.sgd(0.0), "mse")

    class Other(Callback):
        def on_epoch_end(self, epoch, logs=None):
            shared.bias.value = shared.bias.value + 1
            second.fit(X, X, verbose=0)

    first.fit(X, X, epochs=3, verbose=0, callbacks=Other())
    assert shared.bias.value.tolist() == [3, 3, 3, 3]
