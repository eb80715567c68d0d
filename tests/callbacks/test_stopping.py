"""Ends of a fit: at NaN, after some time, at a value."""

import json
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest

import easyflax.callbacks.stopping as stopping
import easyflax.nnx as nnx
from easyflax.callbacks import Callback, EarlyStopping, StopAtValue, TerminateOnNaN, Timer
from easyflax.errors import NonFiniteLossError
from easyflax.models import Model

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def _model():
    model = Model(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def _fit(model, callback, epochs=9, **arguments):
    return model.fit(X, Y, 4, epochs, 0, [callback], **arguments).history


# -- TerminateOnNaN


NAN_AFTER_TWO = np.where(np.arange(16)[:, None] < 8, Y, np.nan)


def _fit_to_nan(callback, seen):
    class Note(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)

        def on_train_end(self, logs=None):
            seen.append("end")

    model = _model()
    return model.fit(X, NAN_AFTER_TWO, 4, 3, 0, [callback, Note()], shuffle=False)


def test_a_fit_ends_after_the_batch_whose_loss_is_nan(capsys):
    seen = []
    history = _fit_to_nan(TerminateOnNaN(), seen)
    assert seen == [0, 1, 2, "end"]
    assert np.isnan(history.history["loss"]).tolist() == [True]
    assert capsys.readouterr().out == "Batch 2: the loss is nan, training ends\n"


def test_raise_error_raises_after_that_batch_and_no_training_ends_properly():
    seen = []
    with pytest.raises(
        RuntimeError, match=r"TerminateOnNaN: the loss is nan after batch 2, expected a finite"
    ):
        _fit_to_nan(TerminateOnNaN(raise_error=True), seen)
    assert seen == [0, 1]


def test_without_it_fit_itself_raises_at_the_end_of_the_epoch():
    seen = []
    with pytest.raises(NonFiniteLossError, match="epoch 1/3, batch 3/4"):
        _fit_to_nan(Callback(), seen)
    assert seen == [0, 1, 2, 3]


def test_a_finite_loss_trains_on():
    assert len(_fit(_model(), TerminateOnNaN(), epochs=2)["loss"]) == 2


def test_early_stopping_that_checks_ends_the_epoch_of_nan_without_an_error():
    seen = []
    history = _fit_to_nan(EarlyStopping("loss", check_finite=True, verbose=1), seen)
    assert seen == [0, 1, 2, 3, "end"]
    assert len(history.history["loss"]) == 1


# -- Timer


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("01:02:03:04", 93784.0),
        (timedelta(minutes=2), 120.0),
        ({"hours": 1, "seconds": 1}, 3601.0),
        (1.5, 1.5),
        (0, 0.0),
        (None, None),
    ],
)
def test_a_duration_may_be_text_a_timedelta_a_dict_or_seconds(duration, seconds):
    assert Timer(duration).duration == seconds


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("12:00:00",), ValueError, r"Timer: duration is '12:00:00', expected 'DD:HH:MM:SS'"),
        (("a:b:c:d",), ValueError, "expected 'DD:HH:MM:SS'"),
        ((-1.0,), ValueError, r"duration is -1\.0 seconds, expected a finite time of at least zero"),
        (([1],), TypeError, r"duration is \[1\], expected a string, a timedelta, a dict, seconds or None"),
        ((1, "batch"), ValueError, r"Timer: Unknown interval 'batch': expected one of 'epoch', 'step'"),
    ],
)
def test_bad_arguments_of_a_timer_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Timer(*arguments)


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock is a second later."""
    now = [0.0]

    def look():
        now[0] += 1
        return now[0]

    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=look))


@pytest.mark.parametrize(("interval", "batches"), [("step", 1), ("epoch", 4)])
def test_a_fit_ends_when_its_time_is_over(clock, interval, batches, capsys):
    model, timer = _model(), Timer(0.5, interval)
    _fit(model, timer)
    assert model.step == batches
    assert capsys.readouterr().out.endswith("are over, training ends\n")
    assert timer.time_remaining() == 0


def test_a_resumed_run_goes_on_counting(clock):
    timer, model = Timer(3, verbose=False), _model()
    timer.set_model(model)
    timer.on_train_begin({})
    timer.on_train_batch_end(0, {})
    state = json.loads(json.dumps(timer.state_dict()))
    again = Timer(4, verbose=False)
    again.set_model(model)
    again.on_train_begin({})
    again.load_state_dict(state)
    assert not model.stop_training
    again.on_train_batch_end(1, {})
    again.on_train_batch_end(2, {})
    assert model.stop_training


def test_a_timer_without_a_duration_only_measures(clock):
    model, timer = _model(), Timer()
    _fit(model, timer, epochs=2)
    assert model.step == 8
    assert timer.time_remaining() is None
    assert timer.time_elapsed() == timer.time_elapsed() == 1


def test_all_processes_stop_when_the_first_one_does(monkeypatch):
    from jax.experimental import multihost_utils

    asked = []
    monkeypatch.setattr(stopping.jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        multihost_utils, "broadcast_one_to_all", lambda flag: asked.append(bool(flag)) or True
    )
    model = _model()
    timer = Timer("01:00:00:00", verbose=False)
    timer.set_model(model)
    timer.on_train_begin({})
    timer.on_train_batch_end(0, {})
    assert (asked, model.stop_training) == ([False], True)


# -- StopAtValue


class OnlyLogs:
    metrics = ()
    stop_training = False


@pytest.mark.parametrize(
    ("mode", "values", "epochs"),
    [("min", [0.3, 0.2, 0.1], 2), ("max", [0.1, 0.2, 0.3], 2), ("min", [0.3], None)],
)
def test_the_value_itself_is_good_enough(mode, values, epochs, capsys):
    callback, model = StopAtValue("score", 0.2, mode, verbose=1), OnlyLogs()
    callback.set_model(model)
    stops = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"score": value})
        stops.append(model.stop_training)
    assert (stops.index(True) + 1 if True in stops else None) == epochs
    if epochs:
        assert capsys.readouterr().out.startswith("Epoch 2: score is 0.2, training ends\n")


def test_a_fit_ends_at_the_first_good_epoch():
    history = _fit(_model(), StopAtValue("mae", 0.5), epochs=50)
    assert history["mae"][-1] <= 0.5 < history["mae"][-2]


def test_a_run_that_is_resumed_after_its_end_ends_at_once():
    callback, model = StopAtValue("score", 0.2, "min"), OnlyLogs()
    callback.set_model(model)
    callback.on_epoch_end(0, {"score": 0.1})
    again, later = StopAtValue("score", 0.2, "min"), OnlyLogs()
    again.set_model(later)
    again.on_train_begin({})
    again.load_state_dict(json.loads(json.dumps(callback.state_dict())))
    assert later.stop_training


def test_a_value_of_an_unknown_name_is_refused_at_the_first_epoch_end():
    with pytest.raises(ValueError, match=r"StopAtValue: Unknown monitor 'mea'.*Did you mean 'mae'\?"):
        _fit(_model(), StopAtValue("mea", 0.5))


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="StopAtValue: value is 'low', expected a finite number"):
        StopAtValue("loss", "low")
