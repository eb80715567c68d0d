"""Lines of JSON: their number, their values, and how a resumed run goes on."""

import json

import numpy as np
import pandas as pd
import pytest

from easyflax.callbacks import BackupAndRestore, Callback, CSVLogger, JSONLogger
from easyflax.callbacks.json_logger import plain_json
from easyflax.layers import Dense, Input
from easyflax.models import Sequential


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_fit_leaves_lines_of_epochs_and_batches(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")
    model = Sequential([Input((2,)), Dense(1)])
    model.compile("sgd", "mse")
    logger = JSONLogger(tmp_path / "log.jsonl", update_freq=2)
    history = model.fit(x, x[:, :1], batch_size=4, epochs=2, verbose=0, callbacks=[logger])
    lines = lines_of(tmp_path / "log.jsonl")
    assert [line["batch"] for line in lines if "batch" in line] == [1, 3, 0, 2, 4]  # every second of ten
    assert [line["step"] for line in lines] == [2, 4, 5, 6, 8, 10, 10]
    of_epochs = [line for line in lines if "batch" not in line]
    assert [line["epoch"] for line in of_epochs] == [0, 1]
    assert [line["loss"] for line in of_epochs] == history.history["loss"]
    assert lines[5]["loss"] == of_epochs[1]["loss"]  # logs of batches are those of the epoch so far


def test_pandas_reads_it(tmp_path):
    logger = JSONLogger(tmp_path / "log.jsonl")
    logger.on_train_begin()
    logger.on_epoch_end(0, {"loss": 0.5, "scores": np.array([1.0, np.nan])})
    logger.on_epoch_end(1, {"loss": float("inf"), "scores": [1.0]})
    logger.on_train_end()
    table = pd.read_json(tmp_path / "log.jsonl", lines=True)
    assert table["loss"][0] == 0.5
    assert np.isnan(table["loss"][1])
    assert table["scores"].tolist() == [[1.0, None], [1.0]]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.arange(2), [0, 1]),
        (float("nan"), None),
        ((1, "a", True, None), [1, "a", True, None]),
        ({1: np.array(2.0)}, {"1": 2.0}),
        (1j, "1j"),
    ],
    ids=["numpy number", "array", "nan", "tuple", "dict", "complex"],
)
def test_values_become_json(value, plain):
    assert plain_json(value) == plain


@pytest.mark.parametrize("append", [True, False], ids=["append", "overwrite"])
def test_a_resumed_run_leaves_the_file_of_an_uninterrupted_one(append, tmp_path):
    def train(logger, epochs):
        for epoch in epochs:
            logger.on_epoch_begin(epoch)
            for batch in range(3):
                logger.on_train_batch_end(batch, {"loss": epoch + batch / 10})
            logger.on_epoch_end(epoch, {"loss": float(epoch)})

    whole, stopped, resumed = (
        JSONLogger(tmp_path / name, append=append, update_freq=2) for name in ("whole", "other", "other")
    )
    whole.on_train_begin()
    train(whole, range(4))
    stopped.on_train_begin()
    train(stopped, [0])
    state = json.loads(json.dumps(stopped.state_dict()))
    train(stopped, [1])
    stopped.on_exception(KeyboardInterrupt())
    resumed.on_train_begin()
    resumed.load_state_dict(state)
    train(resumed, [1, 2, 3])
    assert (tmp_path / "other").read_text() == (tmp_path / "whole").read_text()
    assert len(lines_of(tmp_path / "whole")) == 4 + 6


def test_appending_keeps_what_is_there(tmp_path):
    for append in (False, True, False):
        logger = JSONLogger(tmp_path / "log.jsonl", append=append)
        logger.on_train_begin()
        logger.on_epoch_end(0, {})
        logger.on_train_end()
        assert len(lines_of(tmp_path / "log.jsonl")) == 1 + append


@pytest.mark.parametrize("update_freq", [0, "step", 1.5, True], ids=repr)
def test_an_unknown_update_freq_is_refused(update_freq):
    with pytest.raises(
        ValueError, match=r"JSONLogger: update_freq is .*, expected 'epoch', 'batch' or a num"
    ):
        JSONLogger("log.jsonl", update_freq=update_freq)


def test_a_file_that_cannot_be_written_is_said_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"JSONLogger: the file .* cannot be written"):
        JSONLogger(tmp_path / "file" / "log.jsonl").on_train_begin()


def test_without_update_freq_no_hook_of_batches_is_called():
    from easyflax.train.callback_list import overrides

    assert not overrides(JSONLogger("log.jsonl"), "on_train_batch_end")
    assert overrides(JSONLogger("log.jsonl", update_freq="batch"), "on_train_batch_end")


def test_a_fit_that_is_resumed_within_an_epoch_leaves_the_files_of_an_uninterrupted_one(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")

    def train(folder, *others):
        model = Sequential([Input((2,)), Dense(1, kernel_initializer="ones")])
        model.compile("sgd", "mse")
        loggers = [JSONLogger(folder / "log.jsonl", update_freq=2), CSVLogger(folder / "log.csv")]
        backup = BackupAndRestore(tmp_path / f"{folder.name}_backup", save_freq=3)
        callbacks = [*loggers, backup, *others]
        model.fit(x, x[:, :1], batch_size=4, epochs=3, verbose=0, callbacks=callbacks)

    class Stop(Callback):
        batches = 0

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1
            if self.batches == 11:
                raise KeyboardInterrupt

    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", Stop())
    train(tmp_path / "stopped")
    for name in ("log.jsonl", "log.csv"):
        assert (tmp_path / "stopped" / name).read_text() == (tmp_path / "whole" / name).read_text()
