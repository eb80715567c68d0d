"""Rates set from epoch to epoch: Keras's ReduceLROnPlateau as the oracle on random logs, and errors."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import json

import keras
import numpy as np
import optax
import pytest

import easyflax.nnx as nnx
from easyflax import optimizers
from easyflax.callbacks import LearningRateMonitor, LearningRateScheduler, ReduceLROnPlateau
from easyflax.metrics import BinaryAccuracy, Mean
from easyflax.models import Model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


class Optimizer:
    """Holds its rate as a float32, as the real ones do."""

    def __init__(self, rate=0.5):
        self.set_rate(rate)

    def set_rate(self, rate):
        self.rate = np.float32(rate)

    learning_rate = property(lambda self: self.rate, set_rate)


class OnlyLogs:
    """What ReduceLROnPlateau uses of a model."""

    metrics = (BinaryAccuracy("accuracy"), Mean("entropy"))

    def __init__(self):
        self.optimizer = Optimizer()


def _decisions(callback, values, monitor="val_loss", first=0):
    """The rate, the logs, and what the callback remembers after each epoch."""
    seen = []
    for epoch, value in enumerate(values, first):
        logs = {monitor: value}
        callback.on_epoch_end(epoch, logs)
        best = None if callback.best is None else float(callback.best)
        seen.append(
            (float(callback.model.optimizer.rate), logs, callback.wait, callback.cooldown_counter, best)
        )
    return seen


def _begun(callback, model=None):
    model = OnlyLogs() if model is None else model
    callback.set_model(model)
    callback.on_train_begin({})
    return callback


def _random_arguments():
    return {
        "factor": float(RNG.choice([0.1, 0.5, 0.9])),
        "patience": int(RNG.integers(0, 4)),
        "mode": str(RNG.choice(["min", "max", "auto"])),
        "min_delta": float(RNG.choice([1e-4, 0.0, 0.1, 0.25])),
        "cooldown": int(RNG.choice([0, 0, 1, 3])),
        "min_lr": float(RNG.choice([0.0, 0.001, 0.1, 0.5])),
    }


@pytest.mark.parametrize("arguments", [_random_arguments() for _ in range(30)])
def test_rates_are_kerass_on_random_logs(arguments):
    for _ in range(4):
        values = (RNG.integers(0, 10, size=20) / 10).tolist()  # tenths: ties that float64 would not see
        ours = _decisions(_begun(ReduceLROnPlateau(**arguments)), values)
        theirs = _decisions(_begun(keras.callbacks.ReduceLROnPlateau(**arguments)), values)
        assert ours == theirs, values


def test_a_resumed_plateau_decides_as_the_uninterrupted_one():
    values = [1.0, 2.0, 2.0, 3.0, 0.5, 2.0, 2.0, 2.0]
    whole = _begun(ReduceLROnPlateau(patience=2, cooldown=1))
    expected = _decisions(whole, values)
    for cut in range(len(values)):
        first = _begun(ReduceLROnPlateau(patience=2, cooldown=1))
        _decisions(first, values[:cut])
        second = _begun(ReduceLROnPlateau(patience=2, cooldown=1), first.model)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert _decisions(second, values[cut:], first=cut) == expected[cut:]


def test_epochs_without_validation_do_not_count():
    callback = _begun(ReduceLROnPlateau(patience=1))
    callback.validates = True
    callback.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0})
    callback.on_epoch_end(1, {"loss": 1.0})
    assert (callback.wait, callback.best) == (0, 1.0)


def test_an_unknown_monitor_names_those_that_are():
    callback = _begun(ReduceLROnPlateau("los"))
    with pytest.raises(ValueError, match=r"ReduceLROnPlateau: Unknown monitor 'los'.*Did you mean 'loss'"):
        callback.on_epoch_end(0, {"loss": 1.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"factor": 1.0},
            r"ReduceLROnPlateau: factor is 1.0, expected a finite number of at least 0 and below 1",
        ),
        ({"factor": -0.1}, "factor is -0.1, expected"),
        ({"patience": -1}, "patience is -1, expected a finite number of at least 0"),
        ({"cooldown": float("nan")}, "cooldown is nan, expected a finite number"),
        ({"min_lr": -1.0}, "min_lr is -1.0, expected"),
        ({"mode": "maximum"}, "Unknown mode 'maximum': expected one of 'auto', 'max', 'min'"),
    ],
)
def test_bad_arguments_of_a_plateau_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ReduceLROnPlateau(**arguments)


def test_text_in_place_of_a_number_is_a_type_error():
    with pytest.raises(TypeError, match="patience is '3', expected a finite number"):
        ReduceLROnPlateau(patience="3")


# -- in a fit


def _model(optimizer=None):
    model = Model(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    model.compile(optimizer or optimizers.SGD(0.5), "mse")
    return model


def _fit(model, callback, epochs=3, **arguments):
    return model.fit(X, Y, 8, epochs, verbose=0, callbacks=callback, **arguments).history


def test_a_scheduler_is_given_the_epoch_and_where_it_takes_it_the_rate():
    model = _model()
    assert _fit(model, LearningRateScheduler(lambda epoch: 0.5 ** (epoch + 1)))["learning_rate"] == [
        0.5,
        0.25,
        0.125,
    ]
    assert _fit(model, LearningRateScheduler(lambda epoch, rate: rate / 2))["learning_rate"] == [
        0.0625,
        0.03125,
        0.015625,
    ]
    assert model.optimizer.learning_rate == 0.015625


def test_the_rate_of_an_epoch_is_trained_with():
    model, reference = _model(), _model(optimizers.SGD(0.25))
    _fit(model, LearningRateScheduler(lambda epoch: 0.25), epochs=1)
    _fit(reference, None, epochs=1)
    np.testing.assert_array_equal(model.get_weights()[1], reference.get_weights()[1])


def test_schedules_may_return_whatever_is_a_number():
    model = _model()
    rates = iter([np.float32(0.5), np.array(0.25), optax.constant_schedule(0.125)(0)])
    assert _fit(model, LearningRateScheduler(lambda epoch: next(rates)))["learning_rate"] == [
        0.5,
        0.25,
        0.125,
    ]


@pytest.mark.parametrize("returned", [None, "0.1", float("nan"), -0.1], ids=repr)
def test_a_schedule_that_returns_no_rate_is_refused(returned):
    message = r"LearningRateScheduler: the schedule returned .* for epoch 0, expected a finite number"
    with pytest.raises(ValueError, match=message):
        _fit(_model(), LearningRateScheduler(lambda epoch: returned))


def test_a_type_error_within_a_schedule_is_raised_as_it_is():
    with pytest.raises(TypeError, match="unsupported operand"):
        _fit(_model(), LearningRateScheduler(lambda epoch, rate: rate + "1"))


def test_a_schedule_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match=r"schedule is 0\.1, expected a function of the epoch"):
        LearningRateScheduler(0.1)


def test_verbose_says_the_rates(capsys):
    model = _model()
    _fit(model, LearningRateScheduler(lambda epoch: 0.25, verbose=1), epochs=1)
    _fit(model, ReduceLROnPlateau("loss", patience=1, min_delta=100.0, verbose=1), epochs=2)
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1: LearningRateScheduler sets learning_rate to 0.25",
        "Epoch 2: ReduceLROnPlateau reduces learning_rate to 0.025",
    ]


SETTERS = {
    "scheduler": LearningRateScheduler(lambda epoch: 0.1),
    "plateau": ReduceLROnPlateau("loss"),
}


@pytest.mark.parametrize("callback", SETTERS.values(), ids=SETTERS)
def test_an_optimizer_with_a_schedule_is_refused_before_training(callback):
    model = _model(optimizers.SGD(lambda step: 0.1))
    with pytest.raises(
        TypeError, match=f"{type(callback).__name__}: The learning rate follows a schedule, expected a number"
    ):
        _fit(model, callback)
    assert model.step == 0


@pytest.mark.parametrize("callback", [*SETTERS.values(), LearningRateMonitor()], ids=[*SETTERS, "monitor"])
def test_an_optax_transformation_without_a_rate_in_its_state_is_refused_before_training(callback):
    model = _model(optax.sgd(0.1))
    with pytest.raises(
        ValueError, match=rf"{type(callback).__name__}: .*no learning rate.*optax\.inject_hyperparams"
    ):
        _fit(model, callback)
    assert model.step == 0


def test_the_rate_of_an_optax_transformation_that_keeps_it_is_reduced():
    model = _model(optax.inject_hyperparams(optax.sgd)(learning_rate=0.5))
    rates = _fit(model, ReduceLROnPlateau("loss", patience=1, min_delta=100.0), epochs=3)["learning_rate"]
    np.testing.assert_allclose(rates, [0.5, 0.5, 0.05], rtol=1e-6)


def test_the_monitor_logs_what_later_callbacks_see_at_each_epoch_or_batch():
    class See(LearningRateMonitor):
        def __init__(self):
            super().__init__()
            self.batches = []
            self.on_train_batch_end = lambda batch, logs: self.batches.append(logs.get("learning_rate"))

    see, schedule = See(), LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1))
    history = _fit(_model(), [schedule, LearningRateMonitor("step"), see], epochs=2)
    assert history["learning_rate"] == [0.5, 0.25]
    assert see.batches == [0.5, 0.5, 0.25, 0.25]
    assert LearningRateMonitor().on_train_batch_end.__func__ is LearningRateMonitor.on_train_batch_end


def test_an_unknown_interval_is_refused():
    with pytest.raises(ValueError, match="Unknown logging_interval 'batch': expected one of 'epoch', 'step'"):
        LearningRateMonitor("batch")


def test_a_changed_rate_compiles_nothing(compilations):
    model = _model()
    _fit(model, LearningRateScheduler(lambda epoch: 0.5))
    compilations.clear()
    _fit(model, LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)))
    _fit(model, ReduceLROnPlateau("loss", patience=1, min_delta=100.0))
    assert compilations == []
