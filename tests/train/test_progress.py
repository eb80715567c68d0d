import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.models import Model
from easyflax.train.logs import BatchLogs
from easyflax.train.packing import Packing
from easyflax.train.progress import ProgressBar, ProgressLine, make_progress

LOSS = Packing(lambda: {"loss": jnp.zeros(())})
X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


def _model():
    model = Model(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def test_plain_lines_tell_one_epoch_each(capsys):
    _model().fit(X, X, epochs=2, validation_split=0.5, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    number = r"\d\S*"
    assert len(lines) == 2
    pattern = (
        rf"Epoch 2/2 - {number}s - loss: {number} - mae: {number} - val_loss: {number} - val_mae: {number}"
    )
    assert re.fullmatch(pattern, lines[1])


def test_evaluate_and_predict_have_lines_of_their_own(capsys):
    model = _model()
    model.evaluate(X, X, verbose=2)
    model.predict(X, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Evaluate - ")
    assert "loss: " in lines[0]
    assert lines[1].startswith("Predict - ")


def test_silent_is_silent(capsys):
    model = _model()
    model.fit(X, X, verbose=0)
    model.evaluate(X, X, verbose=0)
    model.predict(X, verbose=0)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_bar_ends_full_with_the_logs_of_the_epoch(capsys):
    history = _model().fit(X, X, batch_size=4, epochs=2, validation_split=0.25, verbose=1)
    last = capsys.readouterr().out.split("\r")[-1]
    assert "Epoch 2/2 3/3 " in last
    assert f"loss: {history.history['loss'][1]:.4g}" in last
    assert f"val_mae: {history.history['val_mae'][1]:.4g}" in last


def test_a_bar_is_closed_by_an_error(capsys):
    with pytest.raises(FloatingPointError):
        _model().fit(np.full_like(X, np.nan), X, verbose=1)
    assert "Epoch 1/1" in capsys.readouterr().out


def test_auto_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert isinstance(make_progress("auto"), ProgressBar)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert isinstance(make_progress("auto"), ProgressLine)


class _Unfinished:
    """An array whose step has not finished; fetching it would wait for ever."""

    ready = False

    def is_ready(self):
        return self.ready

    def __array__(self, *args, **kwargs):
        assert self.ready, "the bar waited for the device"
        return np.array([0.25], np.float32)


def test_the_bar_never_waits_for_a_step(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("easyflax.train.progress.time.perf_counter", lambda: now[0])
    bar = ProgressBar()
    bar.set_params({"epochs": 1, "steps": 100})
    bar.on_epoch_begin(0)
    value = _Unfinished()
    for step in range(50):
        now[0] += 0.06
        bar.on_train_batch_end(step, BatchLogs({"float32": value}, LOSS))
    assert "loss" not in capsys.readouterr().out
    value.ready = True
    now[0] += 1
    bar.on_train_batch_end(50, BatchLogs({"float32": jnp.ones(1)}, LOSS))
    assert "loss: 0.25" in capsys.readouterr().out
    bar.close()


def test_the_bar_is_drawn_at_most_ten_times_a_second(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("easyflax.train.progress.time.perf_counter", lambda: now[0])
    bar = ProgressBar()
    bar.set_params({"epochs": 1, "steps": 1000})
    bar.on_epoch_begin(0)
    capsys.readouterr()
    for step in range(1000):
        now[0] += 0.001
        bar.on_train_batch_end(step, BatchLogs({"float32": jnp.ones(1)}, LOSS))
    assert capsys.readouterr().out.count("\r") <= 11
    bar.close()
