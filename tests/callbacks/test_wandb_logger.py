"""Runs of Weights & Biases, offline and with a stand-in for the package."""

import json
import sys
import types

import numpy as np
import pytest

from easyflax.callbacks import WandbLogger
from easyflax.layers import Dense, Input
from easyflax.models import Sequential

X = np.random.default_rng(0).normal(size=(12, 2)).astype("float32")


class Run:
    """What WandbLogger uses of a run."""

    def __init__(self, id="new"):
        self.id, self.rows, self.metrics, self.exit_code = id, [], {}, None
        self.config = self

    def update(self, values, allow_val_change):
        self.said = values

    def log(self, row):
        self.rows.append(row)

    def define_metric(self, name, step_metric=None):
        self.metrics[name] = step_metric

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package, with the runs that were begun and with what."""
    module = types.ModuleType("wandb")
    module.run, module.begun = None, []

    def init(**options):
        run = Run(options.get("id", "new"))
        module.begun.append((run, options))
        return run

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def a_model():
    model = Sequential([Input((2,)), Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_fit_is_a_run(wandb):
    logger = WandbLogger("trials", "first", mode="offline", config={"note": "x"}, update_freq=2, tags=["a"])
    history = a_model().fit(X, X[:, :1], batch_size=4, epochs=2, verbose=0, callbacks=[logger])
    ((run, options),) = wandb.begun
    assert (options["project"], options["name"], options["tags"]) == ("trials", "first", ["a"])
    assert [row["epoch/loss"] for row in run.rows if "epoch/loss" in row] == history.history["loss"]
    assert [row["epoch/epoch"] for row in run.rows if "epoch/epoch" in row] == [0, 1]
    assert [row["batch/batch_step"] for row in run.rows if "batch/loss" in row] == [2, 4, 6]
    assert run.metrics["epoch/*"] == "epoch/epoch"
    assert run.said.items() >= {"epochs": 2, "optimizer": "SGD", "note": "x"}.items()
    assert run.exit_code == 0


def test_the_present_run_is_used_and_left_open(wandb):
    wandb.run = Run("present")
    a_model().fit(X, X[:, :1], verbose=0, callbacks=[WandbLogger()])
    assert not wandb.begun
    assert len(wandb.run.rows) == 1
    assert wandb.run.exit_code is None


def test_a_resumed_fit_goes_on_with_its_run(wandb):
    state = None
    for _ in ("stopped", "resumed"):
        logger = WandbLogger()
        logger.set_model(a_model())
        logger.set_params({"epochs": 2})
        logger.on_train_begin()
        if state is not None:
            logger.load_state_dict(state)
        logger.on_epoch_end(0, {"loss": 1.0})
        state = json.loads(json.dumps(logger.state_dict()))
        logger.on_exception(KeyboardInterrupt())
    (first, _), (second, options) = wandb.begun
    assert (options["id"], options["resume"]) == (first.id, "allow")
    assert (first.exit_code, second.exit_code) == (1, 1)


def test_only_process_0_logs(wandb, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    logger = WandbLogger()
    logger.on_train_begin()
    logger.on_epoch_end(0, {"loss": 1.0})
    logger.on_train_end()
    assert not wandb.begun


def test_a_mode_is_one_of_those_there_are(wandb):
    with pytest.raises(ValueError, match=r"WandbLogger: mode is 'off', expected 'online', 'offline' or"):
        WandbLogger(mode="off")


def test_a_folder_that_cannot_be_written_is_said_before_training(wandb, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"WandbLogger: the folder .* cannot be written"):
        WandbLogger(dir=tmp_path / "file").on_train_begin()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"WandbLogger needs the package wandb.*pip install wandb"):
        WandbLogger()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_offline_run_leaves_its_file(tmp_path):
    pytest.importorskip("wandb")
    logger = WandbLogger("trials", mode="offline", dir=tmp_path)
    a_model().fit(X, X[:, :1], verbose=0, callbacks=[logger])
    (file,) = tmp_path.rglob("*.wandb")
    assert file.stat().st_size > 0
