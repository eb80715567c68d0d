"""The sweep of learning rates: what it finds, and that it leaves no trace."""

import json

import jax
import numpy as np
import optax
import pytest

import easyflax.nnx as nnx
from easyflax import optimizers
from easyflax.callbacks import Callback, GradientAccumulation, LearningRateFinder
from easyflax.distribution import DataParallel
from easyflax.models import Model

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


class Net(nnx.Module):
    """With a random stream and running statistics, which a sweep changes too."""

    def __init__(self):
        self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
        self.linear = nnx.Linear(3, 1, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.linear(self.drop(self.norm(x)))


def _model(optimizer=None, module=None):
    model = Model(module or nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    model.compile(optimizer or optimizers.SGD(0.05), "mse", metrics=["mae"])
    return model


def _fit(model, *callbacks, x=X, y=Y, **arguments):
    arguments = {"epochs": 2, "batch_size": 8, "verbose": 0, **arguments}
    return model.fit(x, y, callbacks=list(callbacks), **arguments).history


def _finder(**arguments):
    return LearningRateFinder(**{"min_lr": 1e-4, "max_lr": 10.0, "num_training": 20, **arguments})


def batches():
    """Yields the rows once, in batches."""
    for start in range(0, 32, 8):
        yield X[start : start + 8], Y[start : start + 8]


DATA = {
    "arrays": dict,
    "arrays_by_steps": lambda: {"steps_per_epoch": 3},
    "a_function": lambda: {"x": batches, "y": None, "batch_size": None},
    "what_can_be_read_once": lambda: {"x": batches(), "y": None, "batch_size": None, "epochs": 1},
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_the_fit_is_the_one_without_the_sweep(data):
    module = Net if data is DATA["arrays"] else lambda: None
    model, reference = (_model(optimizers.SGD(0.05, momentum=0.9), module()) for _ in range(2))
    finder = _finder(sets_rate=False)
    history = _fit(model, finder, **data())
    assert history == _fit(reference, **data())
    assert len(finder.results["lr"]) > 5
    assert (model.step, model.optimizer.iterations) == (reference.step, reference.optimizer.iterations)
    assert all(map(np.array_equal, model.get_weights(), reference.get_weights()))


def test_each_update_of_the_sweep_has_the_next_rate():
    finder = _finder(early_stop_threshold=None)
    _fit(_model(), finder)
    np.testing.assert_allclose(finder.results["lr"], np.geomspace(1e-4, 10.0, 20))
    linear = _finder(mode="linear", early_stop_threshold=None, max_lr=0.1)
    _fit(_model(), linear)
    np.testing.assert_allclose(linear.results["lr"], np.linspace(1e-4, 0.1, 20))


def test_the_losses_are_those_of_a_loop_by_hand_smoothed():
    finder = _finder(num_training=6, early_stop_threshold=None, sets_rate=False)
    _fit(_model(), finder, shuffle=False)
    weights = np.asarray(nnx.Linear(3, 1, rngs=nnx.Rngs(0)).kernel.value, float)
    bias, mean, expected = 0.0, 0.0, []
    for step, rate in enumerate(np.geomspace(1e-4, 10.0, 6)):
        start = 8 * (step % 4)  # the epoch has four batches, which are read again
        x, y = X[start : start + 8], Y[start : start + 8]
        error = x @ weights + bias - y
        mean = 0.98 * mean + 0.02 * np.mean(error**2)
        expected.append(mean / (1 - 0.98 ** (step + 1)))
        weights, bias = weights - rate * 2 * x.T @ error / 8, bias - rate * 2 * error.mean()
    np.testing.assert_allclose(finder.results["loss"], expected, rtol=1e-4)


def test_the_suggestion_is_the_rate_of_the_steepest_fall():
    finder = LearningRateFinder()
    finder.results = {"lr": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "loss": [9.0, 8.9, 8.0, 5.0, 4.9, 20.0]}
    assert finder.suggestion(skip_begin=0) == 3.0
    assert finder.suggestion(skip_begin=3) == 4.0
    assert finder.suggestion() is None
    finder.results["loss"][2] = np.nan
    assert finder.suggestion(skip_begin=0) == 2.0


def test_the_fit_trains_with_the_suggestion(capsys):
    model, finder = _model(), _finder(verbose=1)
    _fit(model, finder)
    assert model.optimizer.learning_rate == pytest.approx(finder.suggestion(), rel=1e-6)
    assert finder.suggestion() != 0.05
    assert capsys.readouterr().out.startswith("LearningRateFinder: the suggested learning rate is 0.")


def test_the_sweep_ends_where_the_loss_explodes():
    finder = _finder(max_lr=1e5, num_training=40, early_stop_threshold=2.0)
    _fit(_model(), finder)
    losses = finder.results["loss"]
    assert len(losses) < 40
    assert losses[-1] > 2.0 * min(losses[:-1])
    assert all(loss <= 2.0 * min(losses[:-1]) for loss in losses[1:-1])


def test_a_fit_that_only_finds_has_no_epoch():
    model, finder, seen = _model(), _finder(ends_fit=True), []

    class See(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)

    assert _fit(model, finder, See()) == {}
    assert (model.step, seen) == (0, [])
    assert finder.suggestion() is not None
    assert model.optimizer.learning_rate == pytest.approx(finder.suggestion(), rel=1e-6)


def test_batches_that_are_accumulated_make_one_update_of_the_sweep():
    whole, parts = (_finder(num_training=5, early_stop_threshold=None, sets_rate=False) for _ in range(2))
    _fit(_model(), whole, shuffle=False, batch_size=16)
    _fit(_model(), parts, GradientAccumulation(2), shuffle=False)
    np.testing.assert_allclose(parts.results["loss"], whole.results["loss"], rtol=1e-5)


def test_a_run_that_goes_on_does_not_sweep_again():
    class Resume(LearningRateFinder):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            self.load_state_dict(state)

    first = _finder()
    _fit(_model(), first)
    state = json.loads(json.dumps(first.state_dict()))
    model, again = _model(), Resume()
    _fit(model, again)
    assert again.results == first.results
    assert model.optimizer.learning_rate == pytest.approx(0.05)


def test_a_second_sweep_compiles_nothing(compilations):
    model = _model()
    _fit(model, _finder())
    compilations.clear()
    _fit(model, _finder(max_lr=1.0, num_training=15))
    assert compilations == []


@pytest.mark.parametrize("devices", [1, 8])
def test_a_step_of_ones_own_is_swept_and_put_back_on_any_number_of_devices(devices):
    class Own(Model):
        def train_step(self, batch):
            return super().train_step(batch)

    histories, layout = [], DataParallel(jax.devices()[:devices])
    for callbacks in ([_finder(sets_rate=False)], []):
        model = Own(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
        model.compile("adam", "mse", distribution=layout)
        histories.append(_fit(model, *callbacks))
    assert histories[0] == histories[1]


def test_too_few_losses_are_said():
    with pytest.warns(UserWarning, match=r"LearningRateFinder: the sweep gave 5 losses, too few to suggest"):
        _fit(_model(), _finder(num_training=5, early_stop_threshold=None))


def test_no_training_loss_is_refused():
    class Silent(Model):
        def train_step(self, batch):
            return {"other": super().train_step(batch)["loss"]}

    model = Silent(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="LearningRateFinder: train_step logs other, expected 'loss'"):
        _fit(model, _finder())


def test_bad_labels_are_seen_in_all_rows():
    model = Model(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    labels = np.where(np.arange(32) == 31, 7, 0)
    with pytest.raises(ValueError, match="7"):
        _fit(model, _finder(), y=labels)


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (
            optimizers.SGD(lambda step: 0.1),
            TypeError,
            "LearningRateFinder: The learning rate follows a schedule",
        ),
        (optax.sgd(0.1), ValueError, r"LearningRateFinder: .*no learning rate.*optax\.inject_hyperparams"),
    ],
    ids=["schedule", "optax"],
)
def test_an_optimizer_without_a_rate_to_set_is_refused(optimizer, error, message):
    with pytest.raises(error, match=message):
        _fit(_model(optimizer), _finder())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 0.0}, r"LearningRateFinder: min_lr is 0\.0, expected a finite number of at least"),
        ({"min_lr": 0.1, "max_lr": 0.01}, r"max_lr is 0\.01, expected a finite number of at least 0\.1"),
        ({"num_training": 1}, "num_training is 1, expected a whole number of at least 2"),
        ({"early_stop_threshold": 0.5}, r"early_stop_threshold is 0\.5, expected"),
        ({"mode": "log"}, "Unknown mode 'log': expected one of 'exponential', 'linear'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LearningRateFinder(**arguments)


def test_a_plot_shows_losses_over_rates_and_the_suggestion():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    finder = LearningRateFinder()
    with pytest.raises(ValueError, match="there are no results, expected those of a sweep"):
        finder.plot()
    finder.results = {"lr": np.geomspace(1e-3, 1, 20).tolist(), "loss": np.linspace(2, 1, 20).tolist()}
    axes = finder.plot()
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "learning rate", "loss")
    line, point = axes.get_lines()
    assert line.get_xdata().tolist() == finder.results["lr"]
    assert point.get_xdata()[0] == finder.suggestion()
    assert len(finder.plot(suggest=False, ax=pyplot.figure().subplots()).get_lines()) == 1
    pyplot.close("all")
