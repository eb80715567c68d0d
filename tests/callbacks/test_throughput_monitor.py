"""Speeds against a clock that is set by hand, and operations against those of a matrix product."""

import types

import numpy as np
import pytest

from easyflax.callbacks import ThroughputMonitor
from easyflax.callbacks.throughput_monitor import known_peak
from easyflax.data import as_source
from easyflax.layers import Dense, Input
from easyflax.models import Sequential
from easyflax.train.plan import Plan

X = np.random.default_rng(0).normal(size=(20, 8)).astype("float32")
Y = X[:, :1]


def a_model():
    model = Sequential([Input((8,)), Dense(64, use_bias=False), Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("easyflax.callbacks.throughput_monitor.time.perf_counter", lambda: now[0])
    return now


def run_epoch(monitor, source, clock, epoch, *, validation=0.0):
    """The logs of an epoch in which each batch takes a second, the first ever ten."""
    monitor.on_epoch_begin(epoch)
    for count, _ in enumerate(source.epoch(epoch)):
        clock[0] += 10 if epoch == count == 0 else 1
    if validation:
        monitor.on_test_begin()
        clock[0] += validation
    logs = {}
    monitor.on_epoch_end(epoch, logs)
    return logs


@pytest.mark.parametrize("validation", [0.0, 100.0], ids=["without validation", "with validation"])
def test_speeds_are_those_of_training_without_what_compiles(clock, validation):
    monitor = ThroughputMonitor(length_fn=lambda batch: batch[0].size)
    monitor.flops_of_step = 50.0
    source = monitor.configure(Plan(as_source(X, Y, batch_size=8), epochs=2)).source
    first, second = (run_epoch(monitor, source, clock, epoch, validation=validation) for epoch in (0, 1))
    assert first == {
        "rows_per_second": (20 - 8) / 2,
        "batches_per_second": 1.0,
        "tokens_per_second": (20 - 8) * 8 / 2,
        "flops_per_second": 50.0,
    }
    assert second["rows_per_second"] == pytest.approx(20 / 3)


def test_an_epoch_of_one_batch_is_measured_whole(clock):
    monitor = ThroughputMonitor(batch_size_fn=lambda batch: 3 * len(batch[0]))
    source = monitor.configure(Plan(as_source(X, Y, batch_size=20), epochs=1)).source
    assert run_epoch(monitor, source, clock, 0)["rows_per_second"] == 60 / 10


def test_fit_logs_speeds_operations_and_their_share():
    model = a_model()
    monitor = ThroughputMonitor(available_flops=1e9)
    logs = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[monitor]).history
    least = 2 * 8 * (8 * 64 * 2 + 64 * 3)  # products forward, for weights, and back to the first layer
    assert least <= monitor.flops_of_step < 2 * least
    for name in ("rows_per_second", "batches_per_second", "flops_per_second", "share_of_peak"):
        assert min(logs[name]) > 0
    ratio = np.array(logs["flops_per_second"]) / np.array(logs["batches_per_second"])
    np.testing.assert_allclose(ratio, monitor.flops_of_step)
    np.testing.assert_allclose(logs["share_of_peak"], np.array(logs["flops_per_second"]) / 8e9)


def test_eager_steps_have_no_operations():
    model = a_model()
    model.run_eagerly = True
    history = model.fit(X, Y, batch_size=8, verbose=0, callbacks=[ThroughputMonitor(available_flops=1e9)])
    assert "flops_per_second" not in history.history
    assert history.history["rows_per_second"][0] > 0


def test_labels_are_checked_through_it():
    model = Sequential([Input((8,)), Dense(2)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    labels = np.zeros(20, "int32")
    labels[-1] = 7
    with pytest.raises(ValueError, match=r"7"):
        model.fit(X, labels, batch_size=4, verbose=0, callbacks=[ThroughputMonitor(flops=False)])


@pytest.mark.parametrize(
    ("kind", "peak"),
    [("NVIDIA H100 PCIe", 756e12), ("NVIDIA H100 80GB HBM3", 989e12), ("TPU v5 lite", 197e12), ("cpu", None)],
)
def test_peaks_are_known_by_the_kind_of_the_device(kind, peak):
    assert known_peak(types.SimpleNamespace(device_kind=kind)) == peak


def test_a_peak_is_positive():
    with pytest.raises(ValueError, match=r"available_flops is 0, expected a positive number"):
        ThroughputMonitor(available_flops=0)
