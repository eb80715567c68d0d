"""The same run here and in Keras makes the same decisions: when it ends, what is restored, which rates."""

from __future__ import annotations

import functools
import inspect
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

import easyflax

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 2)) + RNG.normal(size=(24, 2))).astype("float32")
WEIGHTS = [RNG.normal(size=(4, 2)).astype("float32"), np.zeros(2, "float32")]
LIBRARIES = [easyflax, keras]

# NumPy 2 warns of how Keras makes arrays of its variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@functools.cache
def compiled_model(library):
    model = library.Sequential([library.Input((4,)), library.layers.Dense(2)])
    model.compile(library.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


def fit_both(make_callbacks, rate=0.1, **arguments):
    """The same fit in both: the history, the weights at its end, and the callbacks, for each library."""
    runs = []
    for library in LIBRARIES:
        model, callbacks = compiled_model(library), make_callbacks(library)
        model.set_weights(WEIGHTS)
        model.optimizer.learning_rate = rate
        arguments = {"batch_size": 8, "epochs": 8, "shuffle": False, "verbose": 0, **arguments}
        history = model.fit(
            X[:16], Y[:16], validation_data=(X[16:], Y[16:]), callbacks=callbacks, **arguments
        )
        runs.append((history.history, model.get_weights(), callbacks))
    (ours, our_weights, our_callbacks), (theirs, their_weights, their_callbacks) = runs
    assert list(ours) == list(theirs)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-4, err_msg=name)
    for one, other in zip(our_weights, their_weights):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    return our_callbacks, their_callbacks


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "name", ["EarlyStopping", "ReduceLROnPlateau", "LearningRateScheduler", "TerminateOnNaN"]
)
def test_arguments_begin_with_kerass_in_kerass_order(name):
    ours, theirs = (
        [
            (one.name, one.default)
            for one in inspect.signature(getattr(library.callbacks, name)).parameters.values()
            if one.kind is not one.VAR_KEYWORD
        ]
        for library in LIBRARIES
    )
    assert ours[: len(theirs)] == theirs


class Spoiled:
    """Puts a value of its own into the logs of each epoch, before the callback under test looks."""

    VALUES = (0.9, 0.7, 0.8, 0.6, 0.61, 0.62, 0.59, 0.9)

    @classmethod
    def before(cls, callback, library):
        def spoil(epoch, logs):
            logs["val_mae"] = cls.VALUES[epoch]

        return [library.callbacks.LambdaCallback(on_epoch_end=spoil), callback]


STOPS = {
    "first_worse_epoch": {},
    "patient": {"patience": 2},
    "restoring": {"patience": 2, "restore_best_weights": True},
    "restoring_without_having_stopped": {"patience": 9, "restore_best_weights": True},
    "by_a_delta": {"patience": 1, "min_delta": 0.1, "restore_best_weights": True},
    "baseline": {"patience": 3, "baseline": 0.65},
    "baseline_never_beaten": {"patience": 3, "baseline": 0.1, "restore_best_weights": True},
    "from_an_epoch_on": {"start_from_epoch": 4, "restore_best_weights": True},
    "for_the_most": {"mode": "max", "patience": 4, "restore_best_weights": True},
}


@pytest.mark.parametrize("arguments", STOPS.values(), ids=STOPS)
def test_early_stopping_ends_the_run_at_the_same_epoch_with_the_same_weights(arguments):
    arguments = {"mode": "min", **arguments}
    both = fit_both(
        lambda library: Spoiled.before(library.callbacks.EarlyStopping("val_mae", **arguments), library)
    )
    ours, theirs = (callbacks[-1] for callbacks in both)
    for name in ("stopped_epoch", "best_epoch", "wait", "best"):
        assert float(getattr(ours, name)) == float(getattr(theirs, name)), name


def test_early_stopping_restores_when_another_callback_ends_the_run():
    def callbacks(library):
        stop = library.callbacks.LambdaCallback()
        stop.on_epoch_end = lambda epoch, logs=None: setattr(stop.model, "stop_training", epoch == 4)
        best = library.callbacks.EarlyStopping("val_mae", mode="min", patience=9, restore_best_weights=True)
        return [stop, *Spoiled.before(best, library)]

    ours, theirs = fit_both(callbacks)
    assert ours[-1].best_epoch == theirs[-1].best_epoch == 3


PLATEAUS = {
    "impatient": {"patience": 1},
    "cooling_down": {"patience": 1, "cooldown": 2, "factor": 0.5},
    "not_below": {"patience": 1, "min_lr": 0.02, "factor": 0.3},
    "by_a_delta": {"patience": 2, "min_delta": 0.1, "factor": 0.5},
    "on_the_loss": {"monitor": "loss", "min_delta": 1.0, "patience": 2},
}


@pytest.mark.parametrize("arguments", PLATEAUS.values(), ids=PLATEAUS)
def test_reduce_lr_on_plateau_sets_the_same_rates(arguments):
    arguments = {"monitor": "val_mae", "mode": "min", **arguments}
    fit_both(lambda library: Spoiled.before(library.callbacks.ReduceLROnPlateau(**arguments), library))
    rates = [float(compiled_model(library).optimizer.learning_rate) for library in LIBRARIES]
    assert rates[0] == rates[1] < 0.1


SCHEDULES = {
    "of_the_epoch": lambda epoch: 0.1 / (epoch + 1),
    "of_epoch_and_rate": lambda epoch, rate: rate * 0.9 if epoch > 2 else rate,
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_scheduler_sets_and_logs_the_same_rates(schedule):
    fit_both(lambda library: [library.callbacks.LearningRateScheduler(schedule)], epochs=5, initial_epoch=1)


def test_a_scheduler_beside_a_plateau_overrules_it_as_in_keras():
    fit_both(
        lambda library: [
            library.callbacks.LearningRateScheduler(lambda epoch: 0.05),
            *Spoiled.before(library.callbacks.ReduceLROnPlateau("val_mae", mode="min", patience=1), library),
        ]
    )


def test_a_plateau_on_an_optimizer_with_a_schedule_raises_the_same_error():
    for library in LIBRARIES:
        model = library.Sequential([library.Input((4,)), library.layers.Dense(2)])
        rate = library.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
        model.compile(library.optimizers.SGD(rate), "mse")
        plateau = library.callbacks.ReduceLROnPlateau("loss", min_delta=100.0, patience=1)
        with pytest.raises(TypeError, match=r"(?i)schedule"):
            model.fit(X, Y, epochs=3, verbose=0, callbacks=[plateau])


def test_the_rates_of_several_optimizers_are_set_and_reduced_as_in_keras():
    seen = []
    for library in LIBRARIES:
        model = library.Sequential(
            [library.Input((4,)), library.layers.Dense(3, name="one"), library.layers.Dense(2, name="two")]
        )
        by_layer = library.optimizers.OptimizerMap(
            library.optimizers.SGD(0.1, name="unused"),
            {
                "one": library.optimizers.SGD(0.01, name="slow"),
                "two": library.optimizers.SGD(0.02, name="fast"),
            },
        )
        model.compile(library.optimizers.MultiOptimizer(by_layer), "mse")
        callbacks = [
            library.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5 if epoch == 1 else rate),
            library.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100.0, min_lr=0.004),
        ]
        history = model.fit(X, Y, epochs=4, verbose=0, callbacks=callbacks).history
        seen.append({name: values for name, values in history.items() if name != "loss"})
    assert list(seen[0]) == list(seen[1])
    for name, rates in seen[1].items():
        np.testing.assert_allclose(seen[0][name], rates, rtol=1e-6)


def test_terminate_on_nan_ends_the_run_after_the_same_batch(capsys):
    targets = np.where(np.arange(16)[:, None] < 8, Y[:16], np.nan)
    runs = []
    for library in LIBRARIES:
        seen, model = [], compiled_model(library)
        model.set_weights(WEIGHTS)
        note = library.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, seen=seen: seen.append(batch),
            on_train_end=lambda logs, seen=seen: seen.append("end"),
        )
        callbacks = [library.callbacks.TerminateOnNaN(), note]
        fit = {"batch_size": 4, "epochs": 3, "shuffle": False, "verbose": 0}
        history = model.fit(X[:16], targets, callbacks=callbacks, **fit)
        with pytest.raises(RuntimeError, match="batch 0"):
            model.fit(X[:16], targets, callbacks=[library.callbacks.TerminateOnNaN(raise_error=True)], **fit)
        runs.append((seen, len(history.history["loss"])))
    assert runs[0] == runs[1] == ([0, 1, 2, "end"], 1)
