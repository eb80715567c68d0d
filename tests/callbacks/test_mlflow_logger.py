"""Runs in a local store of MLflow, read back with its own client."""

import json
import sys

import numpy as np
import pytest

from easyflax.callbacks import MLflowLogger
from easyflax.callbacks.tracked import described, scalars_of
from easyflax.layers import Dense, Input
from easyflax.models import Sequential

X = np.random.default_rng(0).normal(size=(12, 2)).astype("float32")


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    module = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    return module


@pytest.fixture
def store(tmp_path):
    return f"sqlite:///{tmp_path / 'runs.db'}"


def a_model():
    model = Sequential([Input((2,)), Dense(1)])
    model.compile("sgd", "mse")
    return model


def runs_of(mlflow, store, experiment="Default"):
    client = mlflow.MlflowClient(store)
    (found,) = [one for one in client.search_experiments() if one.name == experiment]
    return client, client.search_runs([found.experiment_id])


def history_of(client, run, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_fit_is_a_run_with_metrics_and_parameters(mlflow, store):
    logger = MLflowLogger("trials", "first", store, {"who": "me"}, {"note": "x"}, update_freq=2)
    history = a_model().fit(
        X, X[:, :1], batch_size=4, epochs=2, verbose=0, validation_split=0.25, callbacks=[logger]
    )
    client, (run,) = runs_of(mlflow, store, "trials")
    assert run.info.run_id == logger.run_id
    assert (run.info.run_name, run.info.status, run.data.tags["who"]) == ("first", "FINISHED", "me")
    for name in ("loss", "val_loss"):
        expected = list(enumerate(history.history[name]))
        assert history_of(client, run, name) == expected
    assert [step for step, _ in history_of(client, run, "batch_loss")] == [2, 4, 6]
    expected = {"epochs": "2", "steps": "3", "optimizer": "SGD", "num_params": "3", "note": "x"}
    assert run.data.params.items() >= expected.items()
    assert float(run.data.params["learning_rate"]) == pytest.approx(0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_active_run_is_used_and_left_open(mlflow, store):
    mlflow.set_tracking_uri(store)
    try:
        with mlflow.start_run() as active:
            a_model().fit(X, X[:, :1], verbose=0, callbacks=[MLflowLogger()])
            status = mlflow.MlflowClient(store).get_run(active.info.run_id).info.status
    finally:
        mlflow.set_tracking_uri(None)
    client, (run,) = runs_of(mlflow, store)
    assert run.info.run_id == active.info.run_id
    assert status == "RUNNING"
    assert len(history_of(client, run, "loss")) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, "KILLED"), (ZeroDivisionError, "FAILED")],
    ids=["killed", "failed"],
)
def test_a_resumed_fit_goes_on_with_its_run(mlflow, store, error, status):
    stopped = MLflowLogger(tracking_uri=store)
    stopped.set_model(a_model())
    stopped.set_params({"epochs": 4, "steps": 1})
    stopped.on_train_begin()
    stopped.on_epoch_end(0, {"loss": 1.0, "matrix": np.eye(2)})
    state = json.loads(json.dumps(stopped.state_dict()))
    stopped.on_exception(error())
    client, (run,) = runs_of(mlflow, store)
    assert run.info.status == status

    resumed = MLflowLogger(tracking_uri=store)
    resumed.set_model(stopped.model)
    resumed.set_params(stopped.params)
    resumed.on_train_begin()
    resumed.load_state_dict(state)
    resumed.on_epoch_end(1, {"loss": 0.5})
    resumed.on_train_end()
    _, (run,) = runs_of(mlflow, store)
    assert history_of(client, run, "loss") == [(0, 1.0), (1, 0.5)]
    assert run.info.status == "FINISHED"


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match=r"MLflowLogger needs the package mlflow.*pip install mlflow"):
        MLflowLogger()


def test_numbers_are_told_from_the_rest():
    logs = {"loss": np.float32(0.5), "count": 3, "flag": True, "text": "a", "array": np.eye(2), "none": None}
    assert scalars_of(logs) == {"loss": 0.5, "count": 3.0, "flag": 1.0}
    assert scalars_of(None) == {}


def test_a_fit_is_described_also_without_a_known_number_of_steps():
    found = described(a_model(), {"epochs": 2, "steps": None, "verbose": 1})
    assert set(found) == {"epochs", "optimizer", "learning_rate", "num_params"}
