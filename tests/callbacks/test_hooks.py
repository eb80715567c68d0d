"""Functions as callbacks, and what is said of a callback that raises."""

import numpy as np
import pytest

import easyflax
from easyflax import callbacks, layers

X = np.ones((8, 2), np.float32)


def _model():
    model = easyflax.Sequential([easyflax.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_a_decorated_function_is_called_with_what_it_names():
    seen = []

    @callbacks.on_epoch_end
    def note(epoch, logs):
        seen.append((epoch, sorted(logs)))

    @callbacks.on_train_batch_end
    def stop(batch, model):
        model.stop_training = batch == 1

    @callbacks.on_train_begin
    def begin():
        seen.append("begin")

    model = _model()
    model.fit(X, X[:, :1], batch_size=2, epochs=5, verbose=0, callbacks=[note, stop, begin])
    assert seen == ["begin", (0, ["loss"])]
    assert model.step == 2
    note(7, {"a": 1})
    assert seen[-1] == (7, ["a"])


@pytest.mark.parametrize("name", [name for name in dir(callbacks.Callback) if name.startswith("on_")])
def test_each_hook_has_a_decorator(name):
    calls = []
    made = getattr(callbacks, name)(lambda: calls.append(name))
    assert isinstance(made, callbacks.Callback)
    getattr(made, name)(*([0] if name not in ("on_train_begin",) else []))
    assert calls == [name]


def test_a_function_of_unknown_arguments_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match=r"takes 'epochs', expected any of 'epoch', 'logs', 'model'"):
        callbacks.on_epoch_end(lambda epochs: None)
    with pytest.raises(TypeError, match="expected a function"):
        callbacks.on_epoch_end(3)


class Broken(callbacks.Callback):
    def __init__(self, hook, at=0):
        super().__init__()
        setattr(self, hook, self._raise)
        self.at = at

    def _raise(self, number=0, logs=None):
        if number == self.at or not isinstance(number, int):
            raise ZeroDivisionError("mine")


@pytest.mark.parametrize(
    ("hook", "at", "where"),
    [
        ("on_epoch_end", 1, "on_epoch_end of epoch 2"),
        ("on_train_batch_end", 2, "on_train_batch_end, batch 3 of epoch 1"),
        ("on_test_batch_begin", 1, "on_test_batch_begin, batch 2"),
        ("on_train_begin", 0, "on_train_begin"),
    ],
)
def test_an_error_says_which_callback_raised_it_and_where(hook, at, where):
    with pytest.raises(ZeroDivisionError) as raised:
        _model().fit(
            X,
            X[:, :1],
            batch_size=2,
            epochs=2,
            verbose=0,
            validation_data=(X, X[:, :1]),
            validation_batch_size=2,
            callbacks=[callbacks.Callback(), Broken(hook, at)],
        )
    assert f"Raised by the callback Broken in {where}." in raised.value.__notes__


def test_the_same_object_twice_is_refused():
    callback = callbacks.Callback()
    with pytest.raises(ValueError, match="the same Callback object twice"):
        _model().fit(X, X[:, :1], verbose=0, callbacks=[callback, [callback]])


@pytest.mark.parametrize(
    ("hook", "function", "takes"),
    [
        ("on_epoch_end", lambda epoch: None, r"\(epoch\), expected \(epoch, logs\)"),
        ("on_train_batch_end", lambda batch, logs, more: None, r"\(batch, logs, more\), expected"),
        ("on_train_begin", lambda: None, r"\(\), expected \(logs\)"),
    ],
    ids=["too_few", "too_many", "none"],
)
def test_a_hook_that_takes_other_arguments_is_refused_before_training(hook, function, takes):
    class Mine(callbacks.Callback):
        pass

    mine = Mine()
    setattr(mine, hook, function)
    model = _model()
    with pytest.raises(TypeError, match=f"Mine.{hook} takes {takes}"):
        model.fit(X, X[:, :1], verbose=0, callbacks=[mine])
    assert model.step == 0


def test_hooks_may_take_logs_by_name_only_and_more_arguments_with_defaults():
    seen = []

    class Mine(callbacks.Callback):
        def on_train_batch_end(self, batch, *, logs=None):
            seen.append(batch)

        def on_epoch_end(self, epoch, logs=None, more=3):
            seen.append(more)

        def on_train_end(self, *args, **kwargs):
            seen.append(len(args))

    _model().fit(X, X[:, :1], verbose=0, callbacks=[Mine(), callbacks.LambdaCallback(on_train_end=print)])
    assert seen == [0, 3, 1]
