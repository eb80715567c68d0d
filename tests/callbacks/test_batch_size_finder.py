"""Sizes that are found, by a stand-in for memory and by XLA's own analysis."""

import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.callbacks import BatchSizeFinder, ThroughputMonitor
from easyflax.layers import Dense, Input
from easyflax.models import Sequential

X = np.zeros((4096, 64), "float32")
Y = np.zeros((4096, 1), "float32")


def a_model():
    model = Sequential([Input((64,)), Dense(128, activation="tanh"), Dense(1)])
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize(
    ("options", "limit", "found", "trials"),
    [
        ({}, 100, 64, [2, 4, 8, 16, 32, 64, 128]),
        ({"init_val": 3}, 100, 96, [3, 6, 12, 24, 48, 96, 192]),
        ({"mode": "binsearch"}, 100, 100, [2, 4, 8, 16, 32, 64, 128, 96, 112, 104, 100, 102, 101]),
        ({"max_trials": 3}, 100, 8, [2, 4, 8]),
        ({"mode": "binsearch", "max_trials": 8}, 100, 96, [2, 4, 8, 16, 32, 64, 128, 96]),
        ({}, 10_000, 1000, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]),
        ({"init_val": 500}, 100, None, [500]),
        ({"init_val": 5000}, 10_000, 1000, [1000]),
    ],
    ids=[
        "power",
        "from three",
        "binsearch",
        "few trials",
        "few trials of binsearch",
        "all",
        "none",
        "no more",
    ],
)
def test_sizes_are_searched_for(options, limit, found, trials):
    tried = []

    def fits(rows):
        tried.append(rows)
        return rows <= limit

    finder = BatchSizeFinder(**options)
    assert finder._search(min(finder.init_val, 1000), 1000, 1, fits) == found
    assert tried == trials


def test_sizes_are_multiples_of_the_devices():
    tried = []
    BatchSizeFinder("binsearch")._search(8, 1000, 8, lambda rows: tried.append(rows) or rows <= 100)
    assert tried == [8, 16, 32, 64, 128, 96, 112, 104]


@pytest.mark.slow
def test_fit_trains_with_the_largest_batch_that_fits(capsys):
    model = a_model()
    watcher = ThroughputMonitor(flops=False)
    finder = BatchSizeFinder(init_val=512, memory_limit=500_000, margin=0)
    history = model.fit(X, Y, batch_size=7, verbose=0, callbacks=[watcher, finder])
    sizes = list(finder.memory)
    assert finder.batch_size == sizes[-2]
    assert finder.memory[sizes[-2]] <= 500_000 < finder.memory[sizes[-1]]
    assert model.step == -(-4096 // finder.batch_size)
    assert history.params["steps"] == model.step
    assert f"batch_size={finder.batch_size} needs" in capsys.readouterr().out


def test_what_does_not_fit_at_all_is_said():
    with pytest.raises(
        ValueError, match=r"a batch of 8 rows needs .* MiB, expected at most .*Pass a smaller"
    ):
        a_model().fit(X, Y, verbose=0, callbacks=[BatchSizeFinder(memory_limit=1000)])


def test_data_in_batches_of_their_own_are_refused():
    with pytest.raises(ValueError, match=r"the data come in batches of their own, expected rows"):
        a_model().fit(lambda: iter([(X[:8], Y[:8])]), verbose=0, callbacks=[BatchSizeFinder()])


def test_eager_models_are_refused():
    model = a_model()
    model.run_eagerly = True
    with pytest.raises(ValueError, match=r"the model is run eagerly, expected compiled steps"):
        model.fit(X, Y, verbose=0, callbacks=[BatchSizeFinder(memory_limit=1000)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "powr"}, r"unknown mode 'powr'|mode"),
        ({"init_val": 0}, r"init_val is 0, expected an integer of at least 1"),
        ({"max_trials": 0}, r"max_trials is 0"),
        ({"max_val": 0}, r"max_val is 0"),
        ({"margin": 1}, r"margin is 1, expected a share"),
        ({"memory_limit": -1}, r"memory_limit is -1"),
    ],
    ids=["mode", "init_val", "max_trials", "max_val", "margin", "memory_limit"],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=f"BatchSizeFinder: .*{message}"):
        BatchSizeFinder(**options)


def test_the_step_of_a_plain_module_is_lowered_without_arrays():
    from easyflax.data import Batch
    from easyflax.models import Model
    from easyflax.train.additions import StepShape

    model = Model(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    model.compile("sgd", "mse")
    batch = Batch(np.zeros((8, 3), "float32"), np.zeros((8, 1), "float32"))
    lowered = model.lowered_step(batch, StepShape())
    assert lowered.cost_analysis()["flops"] > 2 * 8 * 3
    assert model.optimizer_state_if_any() is None
