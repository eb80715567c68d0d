"""The table of layers, printed by fit."""

import numpy as np
import pytest

from easyflax.callbacks import ModelSummary
from easyflax.layers import Dense
from easyflax.models import Sequential

X = np.zeros((4, 3), "float32")


def nested():
    inner = Sequential(
        [Dense(4, name="deep"), Sequential([Dense(2, name="deeper")], name="inmost")], name="inner"
    )
    return Sequential([Dense(5, name="top"), inner, Dense(1, name="last")])


def texts_of_fit(**options):
    texts = []
    model = nested()
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], verbose=0, callbacks=[ModelSummary(print_fn=texts.append, **options)])
    return texts


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_so_many_levels_are_shown(depth):
    (text,) = texts_of_fit(max_depth=depth)
    shown = [name for name in ("top", "inner", "deep ", "inmost", "deeper", "last") if name in text]
    levels = {"top": 1, "inner": 1, "deep ": 2, "inmost": 2, "deeper": 3, "last": 1}
    assert shown == [name for name, level in levels.items() if level <= depth]
    assert "Total params: 57" in text


def test_it_is_printed_with_the_columns_that_are_asked_for(capsys):
    model = nested()
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], verbose=0, callbacks=[ModelSummary(show_trainable=True, flops=True)])
    printed = capsys.readouterr().out
    assert "Trainable" in printed
    assert "FLOPs for one row" in printed
    assert "(None, 5)" in printed  # shapes are known from the data


def test_a_depth_below_one_is_refused():
    with pytest.raises(ValueError, match=r"ModelSummary: max_depth is 0, expected an integer of at least 1"):
        ModelSummary(max_depth=0)
    with pytest.raises(ValueError, match=r"summary: max_depth is -1, expected an integer of at least 1"):
        nested().summary(input_shape=(3,), max_depth=-1)


def test_only_process_0_prints(monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    texts = []
    callback = ModelSummary(print_fn=texts.append)
    callback.set_model(nested())
    callback.on_train_begin()
    assert not texts
