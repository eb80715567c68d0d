"""Traces of chosen steps."""

import jax
import numpy as np
import pytest

from easyflax.callbacks import Profiler
from easyflax.callbacks.step_trace import StepTrace, check_step_range
from easyflax.layers import Dense, Input
from easyflax.models import Sequential

X = np.zeros((8, 2), "float32")


@pytest.fixture
def calls(monkeypatch):
    """What is asked of jax.profiler."""
    made = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder, **options: made.append(folder))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: made.append("stop"))
    return made


def steps_traced(trace, calls, steps):
    """The steps before which the trace starts and after which it stops."""
    found = []
    for first, last in steps:
        for hook, step in ((trace.before, first), (lambda step: trace.after(step, {}), last)):
            before = len(calls)
            hook(step)
            found += [step] * (len(calls) - before)
    return found


def test_a_trace_goes_from_the_first_step_to_the_last(calls):
    trace = StepTrace("Profiler", "logs", 2, 3)
    assert steps_traced(trace, calls, [(step, step) for step in range(1, 6)]) == [2, 3]
    assert calls == ["logs", "stop"]


def test_a_trace_begins_with_the_execution_that_it_falls_into(calls):
    trace = StepTrace("Profiler", "logs", 3, 6)
    assert steps_traced(trace, calls, [(1, 4), (5, 8), (9, 12)]) == [5, 8]


@pytest.mark.slow
def test_fit_leaves_a_trace_with_each_step(tmp_path):
    model = Sequential([Input((2,)), Dense(1)])
    model.compile("sgd", "mse")
    profiler = Profiler(tmp_path, steps=(2, 3), create_perfetto_trace=True)
    model.fit(X, X[:, :1], batch_size=2, verbose=0, callbacks=[profiler])
    assert list(tmp_path.rglob("*.xplane.pb"))
    assert list(tmp_path.rglob("perfetto_trace.json.gz"))


def test_a_trace_is_ended_with_the_fit(calls, tmp_path):
    model = Sequential([Input((2,)), Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], batch_size=4, verbose=0, callbacks=[Profiler(tmp_path, steps=(2, 100))])
    assert calls == [str(tmp_path), "stop"]
    profiler = Profiler(tmp_path, steps=1)
    profiler.on_train_begin()
    profiler.on_train_batch_begin(0)
    profiler.on_exception(KeyboardInterrupt())
    assert calls == [str(tmp_path), "stop"] * 2


def test_a_profile_that_runs_already_is_warned_of(monkeypatch, calls):
    def start(folder):
        raise RuntimeError("Only one profile may be run at a time.")

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    trace = StepTrace("Profiler", "logs", 1, 2)
    with pytest.warns(UserWarning, match=r"Profiler: there is no profile \(Only one profile may be run"):
        trace.before(1)
    trace.before(2)
    trace.stop()
    assert calls == []


@pytest.mark.parametrize("steps", [(3, 2), -1, (1, 2, 3), "5-7", 2.5], ids=repr)
def test_steps_that_are_none_are_refused(steps):
    with pytest.raises(
        ValueError, match=r"Profiler: steps is .*, expected the number of a step, counted from 1"
    ):
        Profiler(steps=steps)


def test_no_step_is_refused():
    with pytest.raises(ValueError, match=r"steps is 0, expected at least one step"):
        Profiler(steps=0)
    assert check_step_range("TensorBoard", "profile_batch", 0) is None


def test_a_folder_that_cannot_be_written_is_said_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Profiler: the folder .* cannot be written"):
        Profiler(tmp_path / "file").on_train_begin()
