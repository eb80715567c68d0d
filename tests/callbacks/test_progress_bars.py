"""Bars chosen by a callback, on a terminal and where nobody watches."""

import io
import re

import numpy as np
import pytest

from easyflax.callbacks import ProgressBar, RichProgressBar
from easyflax.layers import Dense, Input
from easyflax.models import Sequential

X = np.zeros((8, 2), "float32")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture(scope="module")
def model():
    model = Sequential([Input((2,)), Dense(1)])
    model.compile("sgd", "mse")
    return model


def shown(model, monkeypatch, stream, *callbacks, verbose):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        model.fit(X, X[:, :1], batch_size=2, verbose=verbose, callbacks=list(callbacks))
    return stream.getvalue()


@pytest.mark.parametrize("verbose", [0, 1, 2, "rich"])
@pytest.mark.parametrize("cls", [ProgressBar, RichProgressBar])
def test_the_bar_is_the_one_chosen_whatever_verbose_is(model, monkeypatch, cls, verbose):
    text = shown(model, monkeypatch, Terminal(), cls(refresh_seconds=0), verbose=verbose)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # colours
    assert re.search(r"Epoch 1/1 4/4.*[mu]?s/step.*loss", text)
    assert ("━" in text) == (cls is RichProgressBar)


@pytest.mark.parametrize("cls", [ProgressBar, RichProgressBar])
def test_a_bar_is_drawn_as_often_as_it_says(model, monkeypatch, cls):
    many, few = (
        shown(model, monkeypatch, Terminal(), cls(refresh_seconds=seconds), verbose=0) for seconds in (0, 60)
    )
    assert many.count("/4") > few.count("/4") >= 1


def test_where_nobody_watches_there_are_lines(model, monkeypatch):
    text = shown(model, monkeypatch, io.StringIO(), ProgressBar(), verbose=0)
    assert text.startswith("Epoch 1/1 4/4 - ")
    assert text.count("\n") == 1


def test_only_process_0_shows_progress(model, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    assert shown(model, monkeypatch, Terminal(), ProgressBar(), verbose=1) == ""
    assert shown(model, monkeypatch, Terminal(), verbose=1) == ""


def test_a_negative_time_is_refused():
    with pytest.raises(ValueError, match=r"RichProgressBar: refresh_seconds is -1, expected at least 0"):
        RichProgressBar(refresh_seconds=-1)
