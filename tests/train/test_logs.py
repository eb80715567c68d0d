import json

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.train.logs import BatchLogs, in_keras_order
from easyflax.train.state import healthy
from easyflax.train.step import Report


class Counted:
    """A device value that counts how often it is fetched."""

    ndim = 0

    def __init__(self):
        self.fetched = 0

    def is_ready(self):
        return True

    def __array__(self, *args, **kwargs):
        self.fetched += 1
        return np.float32(2.0)


def test_values_are_fetched_once_and_when_first_read():
    value = Counted()
    logs = BatchLogs(Report({"loss": value}))
    assert logs.is_ready()
    assert value.fetched == 0
    assert logs["loss"] == logs["loss"] == 2.0
    assert value.fetched == 1


def test_logs_are_a_mapping_of_python_numbers():
    logs = BatchLogs(Report({"loss": jnp.float32(0.5), "counts": jnp.arange(3)}))
    logs["mine"] = 1
    del logs["counts"]
    assert dict(logs) == {**logs} == logs.copy() == {"loss": 0.5, "mine": 1}
    assert type(logs["loss"]) is float
    assert logs.get("absent") is None
    assert "loss" in logs
    assert len(logs) == 2
    assert json.dumps(logs.copy()) == '{"loss": 0.5, "mine": 1}'
    assert repr(logs) == "{'loss': 0.5, 'mine': 1}"


def test_reading_checks_the_health_of_the_step():
    def check(health):
        assert int(health.first_nonfinite) == -1
        raise FloatingPointError

    logs = BatchLogs(Report({"loss": jnp.ones(())}, healthy()), check)
    with pytest.raises(FloatingPointError):
        _ = logs["loss"]


def test_names_are_sorted_as_in_keras():
    assert list(in_keras_order({"loss": 1, "accuracy": 2})) == ["accuracy", "loss"]
