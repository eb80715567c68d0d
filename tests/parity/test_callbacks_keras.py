"""Callbacks see what they see in Keras: the same hooks in the same order, with equal arguments and logs."""

from __future__ import annotations

import functools
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

import easyflax

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(10, 4)).astype("float32"), RNG.normal(size=(10, 3)).astype("float32")
HOOKS = sorted(name for name in dir(keras.callbacks.Callback) if name.startswith("on_"))
WEIGHTS = [RNG.normal(size=(4, 3)).astype("float32"), RNG.normal(size=(3,)).astype("float32")]


@functools.cache
def compiled_model(library):
    model = library.Sequential([library.Input((4,)), library.layers.Dense(3)])
    model.compile("sgd", "mse", metrics=["mse", "mae"])
    return model


def make_model(library):
    """The same model each time, which need not be compiled again, with the weights of the beginning."""
    model = compiled_model(library)
    model.set_weights(WEIGHTS)
    return model


def recorder(library):
    """A callback whose `seen` has each call: the hook, its first argument if it has one, and the logs."""

    def note(name):
        def hook(self, *args, **kwargs):
            *first, logs = [*args, *kwargs.values()]
            self.seen.append((name, *first, dict(logs)))
            getattr(library.callbacks.Callback, name)(self, *args, **kwargs)

        return hook

    def init(self):
        library.callbacks.Callback.__init__(self)
        self.seen = []

    def set_params(self, params):
        self.seen.append(("set_params", dict(params)))
        self.params = params

    members = {"__init__": init, "set_params": set_params, **{name: note(name) for name in HOOKS}}
    return type("Recorder", (library.callbacks.Callback,), members)()


def stopper(library, hook, number):
    """A callback that stops the training in `hook` of the given epoch or batch."""

    class Stopper(library.callbacks.Callback):
        def stop(self, index, logs=None):
            self.model.stop_training = index == number

    setattr(Stopper, hook, Stopper.stop)
    return Stopper()


def assert_same_calls(ours, theirs):
    assert [call[:-1] for call in ours] == [call[:-1] for call in theirs]
    for one, other in zip(ours, theirs):
        assert list(one[-1]) == list(other[-1]), one[:-1]
        if one[0] == "set_params":
            assert one == other
            continue
        for name, value in other[-1].items():
            if name != "outputs":
                assert type(one[-1][name]) is float is type(value)
            np.testing.assert_allclose(one[-1][name], value, rtol=1e-5, atol=1e-6, err_msg=str(one[:-1]))


FITS = {
    "plain": {"epochs": 2},
    "shuffled": {"epochs": 1, "shuffle": True},
    "validated": {"epochs": 2, "validation_data": (X[:5], Y[:5])},
    "validated_in_large_batches": {"validation_data": (X, Y), "validation_batch_size": 100},
    "validated_every_other_epoch": {"epochs": 4, "validation_data": (X, Y), "validation_freq": 2},
    "validated_after_the_first": {"epochs": 3, "validation_data": (X, Y), "validation_freq": [1]},
    "split": {"epochs": 2, "validation_split": 0.3},
    "later": {"initial_epoch": 2, "epochs": 4},
    "nothing_to_do": {"initial_epoch": 2, "epochs": 2},
    "full_batch": {"batch_size": 10},
}


@pytest.mark.parametrize("arguments", FITS.values(), ids=FITS)
def test_fit_calls_the_same_hooks(arguments):
    seen = []
    for library in (easyflax, keras):
        record = recorder(library)
        arguments = {"batch_size": 4, "shuffle": False, **arguments}
        history = make_model(library).fit(X, Y, verbose=0, callbacks=[record], **arguments)
        seen.append(record.seen)
        assert history.params == record.seen[0][1]
    if arguments["shuffle"]:  # in another order
        seen = [[(*call[:-1], dict.fromkeys(call[-1], 0.0)) for call in calls] for calls in seen]
    assert_same_calls(*seen)


def batches(passes=1):
    """Yields batches of four rows, and does not tell how many."""
    for _ in range(passes):
        for start in range(0, 8, 4):
            yield X[start : start + 4], Y[start : start + 4]


BEGUN_AT_THE_END = (("on_train_batch_begin", 2), ("on_batch_begin", 2))
STREAMS = {
    "of_unknown_length": (1, {}),
    "drawn_from_by_steps": (3, {"epochs": 2, "steps_per_epoch": 3}),
    "validated_by_steps": (3, {"steps_per_epoch": 2, "validation_data": (X, Y), "validation_steps": 1}),
    "validated_on_arrays": (1, {"validation_data": (X, Y), "validation_batch_size": 4}),
}


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras's, whenever a generator ends
@pytest.mark.parametrize(("passes", "arguments"), STREAMS.values(), ids=STREAMS)
def test_fit_on_a_generator_calls_the_same_hooks(passes, arguments):
    seen = []
    for library in (easyflax, keras):
        record = recorder(library)
        make_model(library).fit(batches(passes), shuffle=False, verbose=0, callbacks=[record], **arguments)
        seen.append(record.seen)
    if "steps_per_epoch" not in arguments:  # Keras begins one batch more, and then sees that there is none
        seen[1] = [call for call in seen[1] if call[:2] not in BEGUN_AT_THE_END]
    assert_same_calls(*seen)


def test_hooks_are_called_once_for_several_steps_that_are_executed_together():
    seen = []
    for library in (easyflax, keras):
        record = recorder(library)
        model = library.Sequential([library.Input((4,)), library.layers.Dense(3)])
        model.compile("sgd", "mse", steps_per_execution=2)
        model.set_weights(WEIGHTS)
        model.fit(X[:8], Y[:8], batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[record])
        seen.append(record.seen)
    assert_same_calls(*seen)


@pytest.mark.parametrize(
    ("hook", "number"),
    [
        ("on_train_batch_end", 1),
        ("on_batch_end", 0),
        ("on_epoch_end", 1),
        ("on_epoch_begin", 1),
        ("on_test_batch_end", 0),
    ],
)
def test_stop_training_ends_fit_at_the_same_call(hook, number):
    seen = []
    for library in (easyflax, keras):
        record = recorder(library)
        make_model(library).fit(
            X,
            Y,
            batch_size=4,
            epochs=3,
            shuffle=False,
            validation_data=(X[:4], Y[:4]),
            verbose=0,
            callbacks=[stopper(library, hook, number), record],
        )
        seen.append(record.seen)
    assert_same_calls(*seen)


@pytest.mark.parametrize("batch_size", [4, 100])
def test_evaluate_and_predict_call_the_same_hooks(batch_size):
    seen = []
    for library in (easyflax, keras):
        record, model = recorder(library), make_model(library)
        model.evaluate(X, Y, batch_size=batch_size, verbose=0, callbacks=[record])
        model.predict(X, batch_size=batch_size, verbose=0, callbacks=[record])
        seen.append(record.seen)
    assert_same_calls(*seen)


def test_what_a_callback_logs_reaches_the_later_ones_and_history_and_not_the_end_of_training():
    seen = []
    for library in (easyflax, keras):
        record = recorder(library)
        logs = library.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(mine=epoch))
        model = make_model(library)
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[logs, record], shuffle=False)
        seen.append(record.seen)
        assert model.history.history["mine"] == [0, 1]
    ours, theirs = ([call for call in calls if "epoch" in call[0] or "train" in call[0]] for calls in seen)
    assert [list(call[-1]) for call in ours] == [list(call[-1]) for call in theirs]


def test_a_list_of_callbacks_that_a_loop_of_ones_own_drives_calls_the_same_hooks(capsys):
    seen = []
    for library in (easyflax, keras):
        record, model = recorder(library), make_model(library)
        callbacks = library.callbacks.CallbackList(
            [record], add_history=True, add_progbar=True, model=model, verbose=0, epochs=1, steps=2
        )
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(0)
        for batch in range(2):
            callbacks.on_train_batch_begin(batch)
            callbacks.on_train_batch_end(batch, {"z": np.float32(1), "loss": np.ones((), "float32")})
        callbacks.on_test_begin()
        callbacks.on_test_batch_begin(0)
        callbacks.on_test_batch_end(0, {"loss": 3, "more": {"b": 1.0, "a": 2.0}})
        callbacks.on_test_end({"loss": 3})
        callbacks.on_epoch_end(0, {"loss": 1.0, "val_loss": 3, "a": 2})
        callbacks.on_train_end({"loss": 1.0})
        seen.append(record.seen)
        assert model.history.history == {"a": [2.0], "loss": [1.0], "val_loss": [3.0]}
        assert model.history.epoch == [0]
    assert_same_calls(*seen)


def test_a_list_of_callbacks_and_a_history_given_to_fit_are_used():
    for library in (easyflax, keras):
        history, model = library.callbacks.History(), make_model(library)
        assert model.fit(X, Y, verbose=0, callbacks=[history]) is history is model.history
        callbacks = library.callbacks.CallbackList(add_history=True, model=model, epochs=1, steps=1)
        assert model.fit(X, Y, verbose=0, callbacks=callbacks) is model.history
        assert list(model.history.history) == ["loss", "mae", "mse"]
