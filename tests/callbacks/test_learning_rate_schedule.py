"""Rates of each update: against optax, and the count through accumulation and later fits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.nnx as nnx
from easyflax import optimizers
from easyflax.callbacks import (
    Callback,
    GradientAccumulation,
    LearningRateFinder,
    LearningRateSchedule,
    LearningRateScheduler,
    OneCycle,
    ReduceLROnPlateau,
    WarmupCosine,
)
from easyflax.models import Model

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


class Rates(Callback):
    """Notes the rate that each update had."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


def _model(optimizer=None, **arguments):
    model = Model(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    model.compile(optimizer or optimizers.SGD(0.5), "mse", **arguments)
    return model


def _rates(callback, model=None, epochs=2, more=(), **arguments):
    rates = Rates()
    callbacks = [callback, *more, rates]
    arguments = {"batch_size": 4, "verbose": 0, "shuffle": False, **arguments}
    (model or _model()).fit(X, Y, epochs=epochs, callbacks=callbacks, **arguments)
    return rates.seen


def halving(step):
    return 0.5 ** (step + 1)


SCHEDULES = {
    "function": halving,
    "optax": optax.exponential_decay(0.5, transition_steps=1, decay_rate=0.5),
    "keras_like": optimizers.schedules.ExponentialDecay(0.5, 1, 0.5),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_each_update_has_the_rate_of_its_number(schedule):
    rates = _rates(LearningRateSchedule(schedule))
    np.testing.assert_allclose(rates, [0.5 ** (step + 1) for step in range(8)], rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}, {"run_eagerly": True}], ids=str)
def test_training_is_that_of_an_optimizer_with_the_schedule(options):
    model, reference = _model(optimizers.SGD(1.0), **options), _model(optimizers.SGD(halving))
    arguments = {"batch_size": 4, "epochs": 2, "verbose": 0, "shuffle": False}
    model.fit(X, Y, callbacks=LearningRateSchedule(halving), **arguments)
    reference.fit(X, Y, **arguments)
    np.testing.assert_allclose(model.get_weights()[1], reference.get_weights()[1], rtol=1e-6)


def test_a_later_fit_goes_on_at_its_initial_epoch_and_another_one_begins_anew():
    model, schedule = _model(), LearningRateSchedule(halving)
    assert _rates(schedule, model, epochs=1) == [0.5, 0.25, 0.125, 0.0625]
    assert _rates(schedule, model, epochs=2, initial_epoch=1) == [2.0**-5, 2.0**-6, 2.0**-7, 2.0**-8]
    assert _rates(schedule, model, epochs=1) == [0.5, 0.25, 0.125, 0.0625]


def test_batches_that_are_accumulated_make_one_update():
    schedule, accumulation = LearningRateSchedule(halving), GradientAccumulation({0: 3, 1: 1})
    # The rate in the state changes when a group is applied: after its third batch, and the epoch's last.
    assert _rates(schedule, more=[accumulation])[2:] == [0.5, 0.25, 2.0**-3, 2.0**-4, 2.0**-5, 2.0**-6]
    assert _rates(schedule, epochs=2, initial_epoch=1, more=[GradientAccumulation(2)]) == [
        0.5,
        2.0**-3,
        2.0**-3,
        2.0**-4,
    ]


def test_a_resumed_run_goes_on_where_it_was():
    class Resume(LearningRateSchedule):
        def on_epoch_begin(self, epoch, logs=None):
            self.load_state_dict({"updates": np.int64(6)})

    kept = []

    class Keep(LearningRateSchedule):
        def on_epoch_end(self, epoch, logs=None):
            kept.append(self.state_dict())

    assert _rates(Resume(halving), epochs=1)[0] == 2.0**-7
    _rates(Keep(halving))
    assert kept == [{"updates": 4}, {"updates": 8}]


def test_neither_another_fit_nor_one_of_another_length_compiles_anything(compilations):
    model = _model()
    for callback in (LearningRateSchedule(halving), WarmupCosine(0.1), OneCycle(0.1)):
        _rates(callback, model, epochs=1)
    compilations.clear()
    for callback in (LearningRateSchedule(halving), WarmupCosine(0.1), OneCycle(0.1)):
        _rates(callback, model, epochs=3, initial_epoch=1)
    assert compilations == []


# -- schedules of a length


@pytest.mark.parametrize("warmup", [0, 2, 0.25])
def test_warmup_cosine_is_optaxs(warmup):
    steps = round(8 * warmup) if isinstance(warmup, float) else warmup
    expected = optax.warmup_cosine_decay_schedule(0.01 if steps else 0.1, 0.1, steps, 8, end_value=0.001)
    rates = _rates(WarmupCosine(0.1, warmup, start_lr=0.01, end_lr=0.001))
    np.testing.assert_allclose(rates, [float(expected(step)) for step in range(8)], rtol=1e-5)


def test_the_length_is_that_of_the_fit_also_where_accumulation_is_asked_for_later():
    rates = _rates(WarmupCosine(0.1, 0), epochs=2, more=[GradientAccumulation(2)])
    expected = optax.cosine_decay_schedule(0.1, 4)
    # Each update is seen after its second batch.
    np.testing.assert_allclose(rates[1::2], [float(expected(step)) for step in range(4)], rtol=1e-5)


def test_a_length_that_is_given_holds_and_the_rate_then_stays():
    rates = _rates(WarmupCosine(0.1, 0, total_steps=4, end_lr=0.01))
    np.testing.assert_allclose(rates[4:], [0.01] * 4, rtol=1e-5)


def batches():
    """Yields batches, and does not tell how many."""
    for start in range(0, 16, 4):
        yield X[start : start + 4], Y[start : start + 4]


def test_a_fit_of_unknown_length_asks_for_it():
    with pytest.raises(
        ValueError, match=r"OneCycle: nobody knows how many updates the fit will make.*steps_per_epoch to fit"
    ):
        _model().fit(batches, verbose=0, callbacks=OneCycle(0.1))
    _model().fit(batches, verbose=0, callbacks=OneCycle(0.1, total_steps=4))
    _model().fit(batches, verbose=0, steps_per_epoch=4, callbacks=OneCycle(0.1))


def test_a_later_epoch_of_data_of_unknown_length_asks_for_it():
    schedule = LearningRateSchedule(halving)
    _model().fit(batches, verbose=0, callbacks=schedule)
    with pytest.raises(
        ValueError, match=r"nobody knows how many updates came before epoch 1.*steps_per_epoch"
    ):
        _model().fit(batches, verbose=0, initial_epoch=1, epochs=2, callbacks=schedule)


# -- what is refused


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (LearningRateSchedule(halving), "LearningRateSchedule: another callback sets .* each update too"),
        (OneCycle(0.1), "OneCycle: another callback sets the learning rate of each update too"),
        (LearningRateScheduler(halving), "LearningRateScheduler: another callback .* would overwrite it"),
        (ReduceLROnPlateau("loss"), "ReduceLROnPlateau: another callback .* would overwrite it"),
        (LearningRateFinder(), "LearningRateFinder: another callback .* would overwrite it"),
    ],
    ids=["schedule", "one_cycle", "scheduler", "plateau", "finder"],
)
def test_two_that_set_the_rate_are_refused_before_training(other, message):
    for callbacks in ([WarmupCosine(0.1), other], [other, WarmupCosine(0.1)]):
        model = _model()
        with pytest.raises(ValueError, match="another callback sets the learning rate of each update"):
            model.fit(X, Y, verbose=0, callbacks=callbacks)
        assert model.step == 0
    with pytest.raises(ValueError, match=message):
        _model().fit(X, Y, verbose=0, callbacks=[WarmupCosine(0.1), other])


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (optimizers.SGD(halving), TypeError, "WarmupCosine: The learning rate follows a schedule"),
        (optax.sgd(0.1), ValueError, r"WarmupCosine: .*no learning rate.*optax\.inject_hyperparams"),
    ],
    ids=["schedule", "optax"],
)
def test_an_optimizer_without_a_rate_to_set_is_refused_before_training(optimizer, error, message):
    model = _model(optimizer)
    with pytest.raises(error, match=message):
        model.fit(X, Y, verbose=0, callbacks=WarmupCosine(0.1))
    assert model.step == 0


@pytest.mark.parametrize("callback", [WarmupCosine(0.1), LearningRateFinder()], ids=["schedule", "finder"])
def test_several_optimizers_are_refused_before_training(callback):
    by_layer = optimizers.OptimizerMap(optimizers.SGD(0.1), {"bias": optimizers.Adam(0.1)})
    model = _model(optimizers.MultiOptimizer(by_layer))
    with pytest.raises(ValueError, match=r"the model has several optimizers \(adam, sgd\), expected one"):
        model.fit(X, Y, verbose=0, callbacks=callback)
    assert model.step == 0


def test_the_rate_of_an_optax_transformation_that_keeps_it_is_scheduled():
    model = _model(optax.inject_hyperparams(optax.adam)(learning_rate=1.0))
    assert _rates(LearningRateSchedule(halving), model, epochs=1) == [0.5, 0.25, 0.125, 0.0625]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (0.1, r"LearningRateSchedule: schedule is 0\.1, expected a function of the number of updates"),
        (lambda step: 0.1 if step else 0.2, "schedule raised TracerBoolConversionError.*jax.numpy"),
        (lambda step: jnp.zeros(2) + step, r"schedule returns ShapeDtypeStruct.*expected one number"),
    ],
    ids=["number", "untraceable", "vector"],
)
def test_what_is_no_schedule_is_refused(schedule, message):
    with pytest.raises(TypeError, match=message):
        LearningRateSchedule(schedule)


def test_a_schedule_that_cannot_be_hashed_will_do():
    class Schedule:
        __hash__ = None

        def __call__(self, step):
            return halving(step)

    assert _rates(LearningRateSchedule(Schedule()), epochs=1)[0] == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: WarmupCosine(-0.1),
            r"WarmupCosine: max_lr is -0\.1, expected a finite number of at least 0",
        ),
        (
            lambda: WarmupCosine(0.1, 1.5),
            r"warmup is 1\.5, expected a finite number of at least 0 and below 1",
        ),
        (lambda: WarmupCosine(0.1, -1), "warmup is -1, expected a whole number of at least 0"),
        (lambda: WarmupCosine(0.1, total_steps=0), "total_steps is 0, expected a whole number of at least 1"),
        (lambda: OneCycle(0.1, pct_start=1.0), r"OneCycle: pct_start is 1\.0, expected"),
        (lambda: OneCycle(0.1, pct_start=0.6, three_phase=True), r"pct_start is 0\.6, .* below 0\.5"),
        (lambda: OneCycle(0.1, div_factor=0.5), r"div_factor is 0\.5, expected"),
        (lambda: OneCycle(0.1, anneal_strategy="cosine"), r"anneal_strategy 'cosine'.*Did you mean 'cos'"),
    ],
    ids=["max", "share", "warmup", "total", "start", "phases", "div", "strategy"],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_eight_devices_have_the_same_rates():
    from easyflax.distribution import DataParallel

    model = _model(distribution=DataParallel(jax.devices()[:8]))
    assert _rates(LearningRateSchedule(halving), model, epochs=1, batch_size=8) == [0.5, 0.25]
