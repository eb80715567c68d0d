"""Keras's CSVLogger as the oracle for what stands in the file; real fits and resumed runs."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import csv
import json

import keras
import numpy as np
import pytest

from easyflax.callbacks import CSVLogger
from easyflax.layers import Dense, Input
from easyflax.models import Sequential

VALIDATED = [{"loss": 0.5, "accuracy": 0.25, "val_loss": 1.5, "val_accuracy": 0.75}] * 2
EVERY_SECOND = [{"loss": 1.0}, {"loss": 0.5, "val_loss": 0.75}, {"loss": 0.25}]
ODD_VALUES = [
    {
        "loss": float("nan"),
        "text": 'a "quoted", line',
        "confusion": np.array([1.5, 2.5]),
        "scalar": np.array(3.0),
        "list": [1, 2],
    }
]
RUNS = {
    "validated": VALIDATED,
    "validated every second epoch": EVERY_SECOND,
    "odd values": ODD_VALUES,
    "no logs": [{}, {}],
}


def run(logger, logs, first_epoch=0):
    logger.on_train_begin({})
    for epoch, values in enumerate(logs, first_epoch):
        logger.on_epoch_end(epoch, dict(values))
    logger.on_train_end({})


@pytest.mark.parametrize("logs", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("separator", [",", ";"])
def test_the_file_is_that_of_keras(logs, separator, tmp_path):
    run(CSVLogger(tmp_path / "ours.csv", separator), logs)
    run(keras.callbacks.CSVLogger(tmp_path / "keras.csv", separator), logs)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "keras.csv").read_bytes()


@pytest.mark.parametrize("append", [True, False], ids=["append", "overwrite"])
def test_a_second_fit_goes_on_as_in_keras(append, tmp_path):
    for cls in (CSVLogger, keras.callbacks.CSVLogger):
        logger = cls(str(tmp_path / f"{cls.__module__[0]}.csv"), append=append)
        run(logger, EVERY_SECOND)
        run(logger, EVERY_SECOND, first_epoch=3)
        run(cls(logger.filename, append=append), EVERY_SECOND, first_epoch=6)
    assert (tmp_path / "e.csv").read_bytes() == (tmp_path / "k.csv").read_bytes()


def test_fit_leaves_a_row_for_each_epoch(tmp_path):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
    y = x.sum(1, keepdims=True)
    model = Sequential([Input((2,)), Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    history = model.fit(
        x, y, epochs=3, verbose=0, validation_data=(x, y), callbacks=[CSVLogger(tmp_path / "runs" / "a.csv")]
    )
    with (tmp_path / "runs" / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    for name, values in history.history.items():
        assert [float(row[name]) for row in rows] == values


@pytest.mark.parametrize("append", [True, False], ids=["append", "overwrite"])
def test_a_resumed_run_leaves_the_file_of_an_uninterrupted_one(append, tmp_path):
    run(CSVLogger(tmp_path / "whole.csv", append=append), EVERY_SECOND)

    path = tmp_path / "stopped.csv"
    stopped = CSVLogger(path, append=append)
    stopped.on_train_begin()
    stopped.on_epoch_end(0, EVERY_SECOND[0])
    state = json.loads(json.dumps(stopped.state_dict()))
    stopped.on_epoch_end(1, EVERY_SECOND[1])  # after the last checkpoint: lost, and done again
    stopped.on_exception(KeyboardInterrupt())

    resumed = CSVLogger(path, append=append)
    resumed.on_train_begin()
    resumed.load_state_dict(state)
    for epoch in (1, 2):
        resumed.on_epoch_end(epoch, EVERY_SECOND[epoch])
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_run_that_ends_before_its_first_epoch_keeps_the_old_file(tmp_path):
    path = tmp_path / "log.csv"
    run(CSVLogger(path), VALIDATED)
    before = path.read_bytes()
    CSVLogger(path).on_train_begin()
    assert path.read_bytes() == before


def test_a_file_to_append_to_keeps_its_columns_and_the_others_are_warned_of(tmp_path):
    path = tmp_path / "log.csv"
    run(CSVLogger(path), [{"loss": 1.0, "val_loss": 2.0}])
    with pytest.warns(UserWarning, match=r"has no column for 'accuracy'; they are not written\. Pass"):
        run(CSVLogger(path, append=True), [{"accuracy": 0.5, "loss": 0.25}], first_epoch=1)
    assert path.read_text().splitlines() == ["epoch,loss,val_loss", "0,1.0,2.0", "1,0.25,NA"]


def test_a_file_of_another_kind_is_not_appended_to(tmp_path):
    path = tmp_path / "log.csv"
    run(CSVLogger(path, separator=";"), VALIDATED)
    with pytest.raises(ValueError, match=r"begins with 'epoch;accuracy.*expected a header 'epoch,\.\.\.'"):
        CSVLogger(path, append=True).on_train_begin()


def test_a_separator_is_one_character():
    with pytest.raises(ValueError, match=r"separator is ', ', expected a single character"):
        CSVLogger("log.csv", separator=", ")


def test_a_file_that_cannot_be_written_is_said_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"CSVLogger: the file .* cannot be written"):
        CSVLogger(tmp_path / "file" / "log.csv").on_train_begin()


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    run(CSVLogger(tmp_path / "log.csv"), VALIDATED)
    assert not list(tmp_path.iterdir())
