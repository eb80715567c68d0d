import json

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.train.logs import BatchLogs, add_to_logs, in_keras_order
from easyflax.train.packing import Packing

LOSS = Packing(lambda: {"loss": jnp.zeros(())})


class Counted:
    """A device value that counts how often it is fetched."""

    def __init__(self):
        self.fetched = 0

    def is_ready(self):
        return True

    def __array__(self, *args, **kwargs):
        self.fetched += 1
        return np.array([2.0], np.float32)


def test_values_are_fetched_once_and_when_first_read():
    value = Counted()
    logs = BatchLogs({"float32": value}, LOSS)
    assert logs.is_ready()
    assert value.fetched == 0
    assert logs["loss"] == logs["loss"] == 2.0
    assert value.fetched == 1


def test_what_is_added_is_fetched_with_the_rest():
    value, added = Counted(), jnp.float32(0.5)
    logs = BatchLogs({"float32": value}, LOSS)
    add_to_logs(logs, {"norm": added, "memory": 7.0})
    assert logs.is_ready()
    assert value.fetched == 0
    assert dict(logs) == {"loss": 2.0, "norm": 0.5, "memory": 7.0}
    add_to_logs(logs, {"norm": jnp.float32(0.25)})
    assert logs["norm"] == 0.25
    assert value.fetched == 1


def test_numbers_are_added_to_plain_logs_and_to_none():
    logs = {"loss": 1.0}
    add_to_logs(logs, {"norm": jnp.float32(0.5)})
    assert logs == {"loss": 1.0, "norm": 0.5}
    add_to_logs(None, {"norm": 1.0})


def test_logs_are_a_mapping_of_python_numbers():
    values = {"loss": jnp.float32(0.5), "counts": jnp.arange(3)}
    packing = Packing(lambda: values)
    logs = BatchLogs(packing.pack(values), packing)
    assert logs["counts"].tolist() == [0, 1, 2]
    logs["mine"] = 1
    del logs["counts"]
    assert dict(logs) == {**logs} == logs.copy() == {"loss": 0.5, "mine": 1}
    assert type(logs["loss"]) is float
    assert logs.get("absent") is None
    assert "loss" in logs
    assert len(logs) == 2
    assert json.dumps(logs.copy()) == '{"loss": 0.5, "mine": 1}'
    assert repr(logs) == "{'loss': 0.5, 'mine': 1}"


def test_reading_checks_the_values_each_time_until_they_pass():
    checked = []

    def check(values):
        checked.append(values)
        if len(checked) == 1:
            raise FloatingPointError

    logs = BatchLogs({"float32": jnp.ones(1)}, LOSS, check)
    with pytest.raises(FloatingPointError):
        _ = logs["loss"]
    assert logs["loss"] == logs["loss"] == 1.0
    assert checked == [{"loss": 1.0}] * 2


def test_names_are_sorted_as_in_keras():
    assert list(in_keras_order({"loss": 1, "accuracy": 2})) == ["accuracy", "loss"]
