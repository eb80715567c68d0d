"""Memory in the logs."""

import sys
import types

import numpy as np
import pytest

from easyflax.callbacks import DeviceStats, LambdaCallback
from easyflax.callbacks.device_stats import memory_of
from easyflax.layers import Dense, Input
from easyflax.models import Sequential
from easyflax.train.logs import BatchLogs
from easyflax.train.plan import Plan

X = np.zeros((8, 2), "float32")


def gpu(in_use, peak):
    stats = {"bytes_in_use": in_use * 2**20, "peak_bytes_in_use": peak * 2**20, "bytes_limit": 2**34}
    return types.SimpleNamespace(platform="gpu", memory_stats=lambda: stats)


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_fit_logs_the_memory_of_the_process():
    model = Sequential([Input((2,)), Dense(1)])
    model.compile("sgd", "mse")
    kept = []
    keep = LambdaCallback(on_train_batch_end=lambda batch, logs: kept.append(logs))
    history = model.fit(
        X, X[:, :1], batch_size=2, verbose=0, callbacks=[DeviceStats(update_freq=2), keep]
    ).history
    assert 10 < history["memory_peak_mib"][0] < 1e6
    assert all(isinstance(logs, BatchLogs) and logs._values is None for logs in kept)
    assert ["memory_peak_mib" in logs for logs in kept] == [False, True, False, True]


def test_of_several_devices_the_fullest_counts():
    callback = DeviceStats()
    callback.plan = Plan(None, epochs=1, devices=(gpu(10, 30), gpu(20, 25)))
    logs = {"loss": 0.5}
    callback.on_epoch_end(0, logs)
    assert logs == {"loss": 0.5, "memory_mib": 20.0, "memory_peak_mib": 30.0}


def test_a_device_that_tells_nothing_adds_nothing():
    assert memory_of(types.SimpleNamespace(platform="tpu", memory_stats=lambda: None)) == {}


def test_an_unknown_update_freq_is_refused():
    with pytest.raises(ValueError, match=r"DeviceStats: update_freq is 'step'"):
        DeviceStats(update_freq="step")
