"""Options of `compile` that change what the optimizer is given and what training ends with."""

import jax
import numpy as np
import optax
import pytest

import easyflax as ef
from easyflax import layers, nnx, optimizers
from easyflax.errors import NonFiniteLossError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = 10 * X.sum(axis=1, keepdims=True)


def trained(optimizer, epochs=1, **options):
    model = ef.Sequential([ef.Input((4,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile(optimizer, "mse", **options)
    model.fit(X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize("option", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_any_optimizer_clips_when_compile_asks_for_it(option):
    expected = trained(optimizers.SGD(0.1, **{option: 0.5})).get_weights()
    ours = trained(optimizers.SGD(0.1), **{option: 0.5})
    of_optax = trained(optax.sgd(0.1), **{option: 0.5})
    for model in (ours, of_optax):
        for one, other in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
    assert isinstance(ours.optimizer, optimizers.SGD)
    assert ours.optimizer.get_config()[option] == 0.5
    assert not np.allclose(trained(optimizers.SGD(0.1)).get_weights()[0], expected[0])


@pytest.mark.parametrize(
    "make", [lambda: optimizers.SGD(0.01), lambda: optax.sgd(0.01)], ids=["ours", "optax"]
)
def test_fit_ends_with_the_average_of_the_weights(make):
    seen = []

    class Look(ef.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.get_weights()[0])

    model = ef.Sequential([ef.Input((4,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile(make(), "mse", ema=0.5)
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, callbacks=[Look()])
    average = seen[0]
    for weight in seen[1:]:
        average = 0.5 * average + 0.5 * weight
    np.testing.assert_allclose(model.get_weights()[0], average, rtol=1e-6)
    model.fit(X, Y, batch_size=4, verbose=0)  # the arrays of the average are its own
    assert np.isfinite(model.get_weights()[0]).all()


def test_an_optimizer_that_averages_by_itself_does_the_same():
    own = trained(optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9))
    asked = trained(optimizers.Adam(0.1), ema=0.9)
    np.testing.assert_allclose(own.get_weights()[0], asked.get_weights()[0], rtol=1e-6)


def test_a_step_by_itself_ends_with_the_weights_as_they_are():
    model = ef.Sequential([ef.Input((4,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile(optimizers.SGD(0.01), "mse", ema=0.9)
    plain = ef.Sequential([ef.Input((4,)), layers.Dense(1, kernel_initializer="ones")])
    plain.compile(optimizers.SGD(0.01), "mse")
    for one in (model, plain):
        one.train_on_batch(X, Y)
        one.train_on_batch(X, Y)
    np.testing.assert_allclose(model.get_weights()[0], plain.get_weights()[0], rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"clipnorm": 1.0}, {"ema": 0.9}, {"precision": "mixed_float16", "clipvalue": 1.0, "ema": 0.9}],
    ids=["plain", "clipped", "averaged", "all"],
)
def test_the_learning_rate_can_be_set_through_all_of_them(options):
    given = optimizers.SGD(0.5)
    model = trained(given, **options)
    assert model.optimizer.learning_rate == given.learning_rate == 0.5
    model.optimizer.learning_rate = 0.25
    assert given.learning_rate == 0.25
    given.learning_rate = 0.0
    assert model.optimizer.learning_rate == 0.0
    before = model.get_weights()[0]
    model.train_on_batch(X, Y)
    np.testing.assert_array_equal(model.get_weights()[0], before)
    assert (model.optimizer is given) == (options == {})


def test_what_wraps_the_optimizer_is_outermost_the_scale_of_the_loss():
    model = trained(optimizers.Adam(), precision="mixed_float16", clipnorm=1.0)
    assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
    assert model.optimizer.inner_optimizer.clipnorm == 1.0
    unscaled = trained(optimizers.Adam(), precision="mixed_float16", auto_scale_loss=False)
    assert isinstance(unscaled.optimizer, optimizers.Adam)


def test_a_global_policy_of_float16_scales_the_loss_too():
    ef.config.set_dtype_policy("mixed_float16")
    try:
        model = trained("adam")
    finally:
        ef.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
    assert model.predict(X, verbose=0).dtype == np.float16


def test_jit_is_another_word_for_jit_compile():
    seen = []

    class Net(nnx.Module):
        def __init__(self):
            self.inner = nnx.Linear(4, 1, rngs=nnx.Rngs(0))

        def __call__(self, x):
            seen.append(isinstance(x, jax.core.Tracer))
            return self.inner(x)

    model = ef.Model(Net())
    for jit in (True, False):
        model.compile("sgd", "mse", jit=jit)
        model.evaluate(X, Y, verbose=0)
        assert seen[-1] is jit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clipnorm": 1.0, "clipvalue": 1.0}, "compile: clipnorm=1.0 and clipvalue=1.0 were given"),
        ({"clipvalue": -1.0}, "compile: clipvalue is -1.0, expected a finite number of at least 0"),
        ({"ema": 1.5}, "compile: ema is 1.5, expected a number from 0 to 1"),
        ({"precision": "float16"}, "precision is 'float16', expected one of 'float32', 'mixed_bfloat16'"),
        ({"jit": True, "run_eagerly": True}, "got jit=True with run_eagerly=True"),
    ],
    ids=["two", "negative", "share", "precision", "jit"],
)
def test_options_that_make_no_sense_are_refused(options, message):
    model = ef.Sequential([ef.Input((4,)), layers.Dense(1)])
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", "mse", **options)


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        (
            optimizers.SGD(clipnorm=1.0),
            {"clipvalue": 1.0},
            "clipvalue was given, and the optimizer SGD has clip",
        ),
        (optimizers.SGD(use_ema=True), {"ema": 0.9}, "ema was given, and the optimizer SGD has use_ema=True"),
    ],
    ids=["clips", "averages"],
)
def test_an_option_that_the_optimizer_has_already_is_refused(optimizer, options, message):
    model = ef.Sequential([ef.Input((4,)), layers.Dense(1)])
    with pytest.raises(ValueError, match=message):
        model.compile(optimizer, "mse", **options)


def test_optimizers_know_parameters_by_the_names_of_their_layers():
    rows = []

    class Noting(optimizers.SGD):
        def init(self, params):
            from easyflax.optimizers.named_params import array_rows

            rows.extend((row.path, row.name) for row in array_rows(params))
            return super().init(params)

    class Block(layers.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.parts = [layers.Dense(2, name="inside"), nnx.Linear(2, 2, rngs=nnx.Rngs(0))]

        def call(self, inputs):
            return self.parts[1](self.parts[0](inputs))

    model = ef.Sequential([ef.Input((4,)), layers.Dense(3), layers.BatchNormalization(), Block()], name="net")
    model.compile(Noting(), "mse")
    model.train_on_batch(X, np.zeros((12, 2)))
    assert sorted(rows) == [
        ("net/batch_normalization/beta", "beta"),
        ("net/batch_normalization/gamma", "gamma"),
        ("net/block/inside/bias", "bias"),
        ("net/block/inside/kernel", "kernel"),
        ("net/block/parts/1/bias", "bias"),
        ("net/block/parts/1/kernel", "kernel"),
        ("net/dense/bias", "bias"),
        ("net/dense/kernel", "kernel"),
    ]


def test_how_steps_are_run_can_be_set_after_compile():
    seen = []

    class Watched(nnx.Module):
        def __init__(self):
            self.inner = nnx.Linear(3, 1, rngs=nnx.Rngs(0))

        def __call__(self, x):
            seen.append(x.shape)
            return self.inner(x)

    model = ef.Model(Watched())
    x = np.ones((8, 3), np.float32)
    model.compile("sgd", "mse")
    compiled = model.fit(x, x[:, :1], batch_size=2, epochs=2, shuffle=False, verbose=0).history["loss"]
    before = len(seen)
    model.fit(x, x[:, :1], batch_size=2, shuffle=False, verbose=0)
    assert (len(seen), len(compiled)) == (before, 2)  # nothing is traced anew
    model.run_eagerly = True
    model.fit(x, x[:, :1], batch_size=2, shuffle=False, verbose=0)
    assert model.run_eagerly
    assert len(seen) >= before + 4
    with pytest.raises(ValueError, match=r"model: steps_per_execution is 0, expected an integer"):
        model.steps_per_execution = 0
    with pytest.raises(ef.errors.NotCompiledError, match=r"run_eagerly: the model is not compiled"):
        ef.Model(Watched()).run_eagerly = True


def test_an_optimizer_trains_one_model_the_one_that_it_was_compiled_into_last():
    optimizer = optimizers.Adam(0.01)
    first, second = (ef.Model(nnx.Linear(2, 1, rngs=nnx.Rngs(0))) for _ in range(2))
    x = np.ones((4, 2), np.float32)
    first.compile(optimizer, "mse")
    first.fit(x, x[:, :1], verbose=0)
    second.compile(optimizer, "mse")
    second.fit(x, x[:, :1], verbose=0)
    for train in (first.fit, first.train_on_batch):
        with pytest.raises(ValueError, match="the Adam of this model was compiled into another model since"):
            train(x, x[:, :1])
    first.compile(optimizer, "mse")  # also again
    first.fit(x, x[:, :1], verbose=0)


def test_training_goes_on_after_a_loss_that_is_not_finite_where_that_is_wanted():
    x = np.where(np.arange(12)[:, None] == 5, np.nan, X).astype("float32")
    model = ef.Sequential([ef.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(NonFiniteLossError, match=r"batch 2/3 .*raises_nonfinite=False. trains on"):
        model.fit(x, Y, batch_size=4, shuffle=False, verbose=0)
    model.compile("sgd", "mse", raises_nonfinite=False)
    history = model.fit(x, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert np.isnan(history.history["loss"]).all()
    assert model.step == 6
