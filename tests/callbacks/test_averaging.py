"""Averages against recursions in NumPy, Keras's SwapEMAWeights and torch's swa_utils."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
import pytest

from easyflax import layers, optimizers
from easyflax.callbacks import (
    BackupAndRestore,
    Callback,
    ExponentialMovingAverage,
    ModelCheckpoint,
    StochasticWeightAveraging,
    SwapEMAWeights,
)
from easyflax.models import Sequential

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = (X.sum(1, keepdims=True) + 1).astype("float32")
KERNEL = RNG.normal(size=(3, 1)).astype("float32")


def make_model(*more, optimizer="sgd"):
    model = Sequential([layers.Input((3,)), *more, layers.Dense(1)])
    if not more:
        model.set_weights([KERNEL, np.zeros(1, "float32")])
    model.compile(optimizer, "mse")
    return model


def fit(model, *callbacks, **arguments):
    return model.fit(
        X, Y, **{"batch_size": 8, "epochs": 2, "verbose": 0, **arguments}, callbacks=[*callbacks]
    )


class Watch(Callback):
    """Keeps the kernel after each step and epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(np.asarray(self.model.get_weights()[0]))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(np.asarray(self.model.get_weights()[0]))


# -- ExponentialMovingAverage


def moving_average(kernels, decay, every=1, start=0):
    average = kernels[0]
    for done, kernel in enumerate(kernels):
        if done <= start:
            average = kernel
        elif (done - start) % every == 0:
            average = decay * average + (1 - decay) * kernel
    return average


def in_order(average):
    """Returns kernel and bias."""
    return sorted(average.values(), key=lambda value: -value.ndim)


@pytest.mark.parametrize(("every", "start"), [(1, 0), (2, 0), (1, 3), (3, 1)])
def test_the_average_follows_the_recursion_and_ends_in_the_model(every, start):
    model, watch = make_model(), Watch()
    average = ExponentialMovingAverage(0.7, every, start or None)
    fit(model, watch, average)
    expected = moving_average(watch.steps, 0.7, every, start)
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-6)
    assert not np.allclose(expected, watch.steps[-1], rtol=1e-4)


def test_the_weights_stay_if_asked_and_the_average_is_used_to_evaluate():
    model, watch = make_model(), Watch()
    average = ExponentialMovingAverage(0.7, ends_with_average=False)
    history = fit(model, watch, average, validation_data=(X, Y))
    np.testing.assert_array_equal(model.get_weights()[0], watch.steps[-1])

    averaged = make_model()
    averaged.set_weights(in_order(average.average))
    np.testing.assert_allclose(averaged.get_weights()[0], moving_average(watch.steps, 0.7), rtol=1e-6)
    loss = averaged.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(history.history["val_loss"][-1], loss, rtol=1e-6)
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0, callbacks=[average]), loss, rtol=1e-6)
    predicted = model.predict(X, verbose=0, callbacks=[average])
    np.testing.assert_allclose(predicted, averaged.predict(X, verbose=0), rtol=1e-5)
    np.testing.assert_array_equal(model.get_weights()[0], watch.steps[-1])
    assert model.evaluate(X, Y, verbose=0) != pytest.approx(loss)


def test_updates_of_several_batches_count_once():
    model, watch = make_model(), Watch()
    model.compile("sgd", "mse", gradient_accumulation_steps=2)
    fit(model, watch, ExponentialMovingAverage(0.7), batch_size=4, epochs=1)
    np.testing.assert_allclose(model.get_weights()[0], moving_average(watch.steps[1::2], 0.7), rtol=1e-6)


@pytest.mark.parametrize("name", ["best.weights.h5", "folder"])
def test_the_average_is_saved_in_place_of_the_weights(tmp_path, name):
    model = make_model()
    average = ExponentialMovingAverage(0.7, ends_with_average=False)
    fit(model, average, ModelCheckpoint(tmp_path / name, save_weights_only=True))
    other = make_model()
    other.load_weights(tmp_path / name)
    for got, expected in zip(other.get_weights(), in_order(average.average)):
        np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(other.get_weights()[0], model.get_weights()[0])


class Fail(Callback):
    def __init__(self, hook, epoch=1):
        super().__init__()
        self.epoch = epoch
        setattr(self, hook, self._fail)

    def on_epoch_begin(self, epoch, logs=None):
        self.is_time = epoch == self.epoch

    def _fail(self, *_, **__):
        if self.is_time:
            raise KeyboardInterrupt


def test_the_weights_are_back_when_an_evaluation_within_fit_fails():
    model, watch = make_model(), Watch()
    with pytest.raises(KeyboardInterrupt):
        fit(
            model,
            watch,
            ExponentialMovingAverage(0.7),
            Fail("on_test_batch_end"),
            validation_data=(X, Y),
        )
    np.testing.assert_array_equal(model.get_weights()[0], watch.steps[-1])


def test_there_is_nothing_to_evaluate_before_a_fit():
    with pytest.raises(ValueError, match="there is no average yet, expected one of a fit"):
        make_model().evaluate(X, Y, verbose=0, callbacks=[ExponentialMovingAverage()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.0}, "decay is 1.0, expected a number from 0 to below 1"),
        ({"decay": "0.9"}, "decay is '0.9', expected a number"),
        ({"update_every_n_steps": 0}, "update_every_n_steps is 0, expected a number of at least one"),
        ({"update_starting_at_step": -1}, "update_starting_at_step is -1, expected"),
    ],
)
def test_averages_without_meaning_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExponentialMovingAverage(**arguments)


# -- SwapEMAWeights


def keras_run(swap_on_epoch, epochs=3, **arguments):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.set_weights([KERNEL, np.zeros(1, "float32")])
    model.compile(keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8), "mse")
    seen = []
    see = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(np.asarray(model.get_weights()[0]))
    )
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch)
    history = model.fit(
        X,
        Y,
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=(X, Y),
        callbacks=[swap, see],
    )
    return history.history, seen, model.get_weights()


# Keras converts its variables in a manner that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_swapped_weights_are_those_of_keras(swap_on_epoch):
    expected, seen, weights = keras_run(swap_on_epoch)
    model, watch = make_model(optimizer=optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8)), Watch()
    history = fit(
        model, SwapEMAWeights(swap_on_epoch), watch, epochs=3, shuffle=False, validation_data=(X, Y)
    )
    for name, values in expected.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-5)
    np.testing.assert_allclose(watch.epochs, seen, rtol=1e-5)
    for got, want in zip(model.get_weights(), weights):
        np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.slow
def test_a_run_goes_on_between_swaps(tmp_path):
    def run(*callbacks):
        model = make_model(optimizer=optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8))
        history = fit(model, SwapEMAWeights(True), *callbacks, epochs=3, validation_data=(X, Y))
        return history.history, model.get_weights()

    expected = run()
    with pytest.raises(KeyboardInterrupt):
        run(BackupAndRestore(tmp_path), Fail("on_train_batch_begin"))
    history, weights = run(BackupAndRestore(tmp_path))
    assert history == expected[0]
    jax.tree.map(np.testing.assert_array_equal, weights, expected[1])


def test_an_optimizer_without_averages_is_refused():
    with pytest.raises(ValueError, match=r"the optimizer SGD keeps no averages, .* SGD\(..., use_ema=True\)"):
        fit(make_model(), SwapEMAWeights())


# -- StochasticWeightAveraging


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize(("strategy", "annealing"), [("cos", 3), ("linear", 2), ("linear", 0), ("cos", 10)])
def test_learning_rates_go_as_those_of_torch(strategy, annealing):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = torch.optim.swa_utils.SWALR(
        optimizer, swa_lr=0.05, anneal_epochs=annealing, anneal_strategy=strategy
    )
    expected = [0.01]
    for _ in range(5):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()

    class Rates(Callback):
        def __init__(self):
            super().__init__()
            self.rates = []

        def on_epoch_begin(self, epoch, logs=None):
            self.rates.append(float(self.model.optimizer.learning_rate))

    rates = Rates()
    swa = StochasticWeightAveraging(0.05, 2, annealing, strategy)
    fit(make_model(), swa, rates, epochs=6)
    np.testing.assert_allclose(rates.rates, expected, rtol=1e-5)


@pytest.mark.parametrize(("start", "first"), [(0.8, 3), (4, 3), (1, 0), (0.0, 0)])
def test_the_run_ends_with_the_mean_of_the_last_epochs(start, first):
    model, watch = make_model(), Watch()
    swa = StochasticWeightAveraging(0.05, start, annealing_epochs=1)
    fit(model, swa, watch, epochs=5)
    np.testing.assert_allclose(model.get_weights()[0], np.mean(watch.epochs[first:], 0), rtol=1e-5)
    assert swa.count == 5 - first


@pytest.mark.slow
def test_statistics_are_computed_anew_as_by_torch():
    torch = pytest.importorskip("torch")
    model = make_model(layers.BatchNormalization(momentum=0.5), layers.Dropout(0.5))
    fit(model, StochasticWeightAveraging(0.01, 0.5), epochs=3, shuffle=False)
    norm = torch.nn.BatchNorm1d(3)
    torch.optim.swa_utils.update_bn(torch.tensor(X).split(8), norm)
    layer = model.layers[0]
    np.testing.assert_allclose(layer.moving_mean[...], norm.running_mean.numpy(), rtol=1e-5, atol=1e-6)
    # torch takes variances of a sample, with one row less in the divisor
    np.testing.assert_allclose(layer.moving_variance[...], norm.running_var.numpy() * 7 / 8, rtol=1e-5)
    assert layer.momentum == 0.5


def test_data_that_are_read_to_their_end_leave_statistics_as_they_are():
    model = make_model(layers.BatchNormalization())
    batches = ((X[i : i + 8], Y[i : i + 8]) for _ in range(2) for i in (0, 8, 16))
    with pytest.warns(UserWarning, match="gave no batch to compute the statistics of batch normalization"):
        model.fit(
            batches, epochs=2, steps_per_epoch=3, verbose=0, callbacks=[StochasticWeightAveraging(0.05, 1)]
        )


@pytest.mark.slow
def test_a_mean_goes_on_in_a_resumed_run(tmp_path):
    def run(*callbacks):
        model = make_model(layers.BatchNormalization())
        model.set_weights([np.full_like(weight, 0.5) for weight in model.get_weights()])
        history = fit(model, StochasticWeightAveraging(0.05, 2), *callbacks, epochs=5)
        return history.history, model.get_weights()

    expected = run()
    with pytest.raises(KeyboardInterrupt):
        run(BackupAndRestore(tmp_path, save_freq=2), Fail("on_train_batch_end", epoch=3))
    history, weights = run(BackupAndRestore(tmp_path, save_freq=2))
    assert history == expected[0]
    jax.tree.map(np.testing.assert_array_equal, weights, expected[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"swa_lrs": 0}, "swa_lrs is 0, expected a learning rate above 0"),
        ({"swa_lrs": [0.1]}, r"swa_lrs is \[0.1\], expected a learning rate"),
        ({"swa_lrs": 0.1, "swa_epoch_start": 1.5}, "swa_epoch_start is 1.5, expected the number of an epoch"),
        ({"swa_lrs": 0.1, "swa_epoch_start": 0}, "swa_epoch_start is 0, expected the number of an epoch"),
        (
            {"swa_lrs": 0.1, "annealing_epochs": -1},
            "annealing_epochs is -1, expected a number of epochs, or 0",
        ),
        ({"swa_lrs": 0.1, "annealing_strategy": "cosine"}, "Unknown annealing_strategy 'cosine'.*'cos'"),
    ],
)
def test_means_without_meaning_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        StochasticWeightAveraging(**arguments)


def test_a_learning_rate_that_follows_a_schedule_is_refused_before_training():
    schedule = optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    with pytest.raises(TypeError, match="learning_rate"):
        fit(make_model(optimizer=optimizers.SGD(schedule)), StochasticWeightAveraging(0.05))
