"""Keras as the oracle: twenty steps with the same gradients, or on the same loss, end in the same place."""

import inspect
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import easyflax as ef
from easyflax import nnx, optimizers

# Of Keras, when it reads a variable into a configuration.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = 20
RNG = np.random.default_rng(0)
START = {
    "kernel": RNG.normal(size=(4, 3)).astype("float32"),
    "bias": np.zeros(3, "float32"),
    "embeddings": RNG.normal(size=(2, 5)).astype("float32"),
    "conv": RNG.normal(size=(2, 3, 2)).astype("float32"),
}
GRADS = [
    {name: RNG.normal(size=w.shape).astype("float32") for name, w in START.items()} for _ in range(STEPS)
]

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"clipnorm": 0.5}),
    ("SGD", {"clipvalue": 0.3}),
    ("SGD", {"global_clipnorm": 0.7}),
    ("SGD", {"momentum": 0.5, "use_ema": True, "ema_momentum": 0.9}),
    ("SGD", {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3}),
    ("SGD", {"momentum": 0.9, "gradient_accumulation_steps": 3, "weight_decay": 0.1}),
    ("SGD", {"loss_scale_factor": 8.0, "clipnorm": 0.5}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "rho": 0.8}),
    ("RMSprop", {"centered": True}),
    ("Adam", {}),
    ("Adam", {"learning_rate": 0.1}),
    ("Adam", {"amsgrad": True, "learning_rate": 0.1}),
    ("Adam", {"gradient_accumulation_steps": 4, "global_clipnorm": 0.5}),
    (
        "Adam",
        {
            "gradient_accumulation_steps": 2,
            "use_ema": True,
            "ema_momentum": 0.8,
            "ema_overwrite_frequency": 2,
            "learning_rate": 0.1,
        },
    ),
    ("Adam", {"learning_rate": 0.1, "beta_1": 0.5, "beta_2": 0.9}),
    ("AdamW", {}),
    ("AdamW", {"learning_rate": 0.05, "weight_decay": 0.2}),
    ("Nadam", {"learning_rate": 0.1}),
    ("Adamax", {"learning_rate": 0.1}),
    ("Lamb", {"learning_rate": 0.01}),
    ("Lamb", {"learning_rate": 0.1, "weight_decay": 0.5}),
    ("Lion", {"weight_decay": 0.01}),
    ("Adagrad", {"learning_rate": 0.1}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adafactor", {"learning_rate": 0.1}),
    ("Adafactor", {"learning_rate": 0.5, "clip_threshold": 0.5, "weight_decay": 0.1, "relative_step": False}),
    ("Ftrl", {"learning_rate": 0.1}),
    (
        "Ftrl",
        {
            "learning_rate": 0.5,
            "learning_rate_power": -0.7,
            "l1_regularization_strength": 0.05,
            "l2_regularization_strength": 0.1,
            "l2_shrinkage_regularization_strength": 0.1,
            "beta": 0.2,
            "weight_decay": 0.1,
        },
    ),
    ("ScheduleFreeAdamW", {"learning_rate": 0.1}),
    ("ScheduleFreeAdamW", {"learning_rate": 0.1, "warmup_steps": 7, "beta_1": 0.8, "weight_decay": 0.1}),
    ("Muon", {"learning_rate": 0.01}),
    ("Muon", {"learning_rate": 0.01, "nesterov": False, "rms_rate": None, "adam_weight_decay": 0.1}),
    ("Muon", {"learning_rate": 0.01, "weight_decay": None, "adam_lr_ratio": 0.5, "ns_steps": 3}),
]


def _ours(optimizer, grads=GRADS, change=None):
    tx = optimizers.get(optimizer)
    params, state = dict(START), tx.init(START)
    update = jax.jit(tx.update)
    for step, grad in enumerate(grads):
        if change and step in change:
            state = optimizers.set_learning_rate(state, change[step])
        updates, state = update(grad, state, params)
        params = optax.apply_updates(params, updates)
    return params


def _keras(optimizer, grads=GRADS, change=None):
    variables = {name: keras.Variable(value, name=name) for name, value in START.items()}
    optimizer.build(list(variables.values()))
    apply = jax.jit(optimizer.stateless_apply)
    params = [variable.value for variable in variables.values()]
    for step, grad in enumerate(grads):
        if change and step in change:
            optimizer.learning_rate = change[step]
        own = [variable.value for variable in optimizer.variables]
        params, own = apply(own, [grad[name] for name in variables], params)
        for variable, value in zip(optimizer.variables, own, strict=True):
            variable.assign(value)
    return {name: np.asarray(value) for name, value in zip(variables, params, strict=True)}


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_twenty_steps_end_where_kerass_end(name, arguments):
    ours = _ours(getattr(optimizers, name)(**arguments))
    theirs = _keras(getattr(keras.optimizers, name)(**arguments))
    for key, start in START.items():
        assert np.abs(theirs[key] - start).max() > 1e-4  # they did move
        # The rounding of schedule-free steps adds up: each begins with a difference of the last two.
        atol = 2e-6 if name == "ScheduleFreeAdamW" else 1e-6
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=atol)


NAMES = sorted({name for name, _ in CASES})


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_has_kerass_keys_and_loads_there_and_here(name):
    arguments = dict(
        CASES[[name for name, _ in CASES].index(name)][1], learning_rate=0.25, clipnorm=2.0, name="mine"
    )
    ours, theirs = (getattr(lib, name)(**arguments) for lib in (optimizers, keras.optimizers))
    assert ours.get_config() == theirs.get_config()
    again = optimizers.deserialize(keras.optimizers.serialize(theirs))
    assert type(again) is type(ours)
    assert again.get_config() == ours.get_config()
    assert optimizers.get(optimizers.serialize(ours)).get_config() == ours.get_config()
    assert optimizers.serialize(ours) == {
        **keras.optimizers.serialize(theirs),
        "module": "easyflax.optimizers",
    }


@pytest.mark.parametrize("name", NAMES)
def test_arguments_have_kerass_names_and_defaults(name):
    def defaults(cls):
        config = cls().get_config()
        return {key: value for key, value in config.items() if key not in ("name", "learning_rate")}

    ours, theirs = getattr(optimizers, name), getattr(keras.optimizers, name)
    assert defaults(ours) == defaults(theirs)
    own = [key for key in inspect.signature(ours).parameters if key not in ("common", "unknown")]
    assert own == list(inspect.signature(theirs).parameters)[: len(own)]


@pytest.mark.parametrize("change", [{}, {"gradient_accumulation_steps": 3}], ids=["each", "accumulated"])
def test_a_schedule_is_followed_as_in_keras(change):
    def make(lib):
        schedule = lib.schedules.ExponentialDecay(0.5, decay_steps=2, decay_rate=0.7)
        return lib.SGD(schedule, momentum=0.5, name="mine", **change)

    ours, theirs = _ours(make(optimizers)), _keras(make(keras.optimizers))
    for key in START:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-6)
    config = keras.optimizers.serialize(make(keras.optimizers))
    assert optimizers.get(config).get_config() == make(optimizers).get_config()


def test_what_is_left_out_of_weight_decay_is_as_in_keras():
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias", "conv"])
    mine = optimizers.AdamW(0.1, weight_decay=0.5)
    mine.exclude_from_weight_decay(var_names=["bias", "conv"])
    ours, theirs = _ours(mine), _keras(optimizer)
    for key in START:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-6)


def test_dynamic_loss_scaling_is_as_in_keras():
    grads = [{key: 64 * value for key, value in step.items()} for step in GRADS]
    for bad in (3, 11):
        grads[bad] = {**grads[bad], "bias": np.full(3, np.inf, "float32")}

    def make(lib):
        inner = lib.Adam(0.1, clipnorm=1.0)
        return lib.LossScaleOptimizer(inner, initial_scale=64.0, dynamic_growth_steps=4, name="mine")

    mine, other = make(optimizers), make(keras.optimizers)
    ours, theirs = _ours(mine, grads), _keras(other, grads)
    for key in START:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-6)
    variables = [nnx.Param(value) for value in START.values()]
    for grad in grads:
        mine.apply(list(grad.values()), variables)
    assert mine.iterations == int(other.iterations) == 18
    assert float(mine.loss_scale()) == float(other.dynamic_scale.value) == 128.0
    assert float(mine.scale_loss(2.0)) == float(other.scale_loss(2.0))
    assert mine.inner_optimizer.iterations == 18
    config = keras.optimizers.serialize(make(keras.optimizers))
    again = optimizers.get(config)
    inner = config["config"]["inner_optimizer"]["config"]
    assert again.get_config()["inner_optimizer"]["config"] == inner
    assert again.get_config().keys() == config["config"].keys()


def test_muon_leaves_named_layers_to_adamw_as_keras_does():
    both = [
        lib.Muon(0.01, exclude_layers=["kern"], exclude_embeddings=False)
        for lib in (optimizers, keras.optimizers)
    ]
    ours, theirs = _ours(both[0]), _keras(both[1])
    for key in START:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "lion", "lamb", "ftrl"],
)
def test_a_name_has_kerass_defaults(name):
    theirs = _keras({"lamb": keras.optimizers.Lamb}.get(name, lambda: keras.optimizers.get(name))())
    ours = _ours(name)
    for key in START:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"), [("SGD", {"momentum": 0.9}), ("RMSprop", {"momentum": 0.5}), ("Adam", {})]
)
def test_a_learning_rate_that_changes_acts_as_in_keras(name, arguments):
    change = {5: 0.05, 12: 0.001}
    ours = _ours(getattr(optimizers, name)(**arguments), change=change)
    theirs = _keras(getattr(keras.optimizers, name)(**arguments), change=change)
    for key in START:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_the_loss_curve_of_a_small_network_equals_kerass(name):
    x = RNG.normal(size=(32, 4)).astype("float32")
    y = np.tanh(x @ RNG.normal(size=(4, 3))).astype("float32")

    def loss(params):
        return jnp.mean((jnp.tanh(x @ params["kernel"] + params["bias"]) - y) ** 2)

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    tx = optimizers.get(getattr(optimizers, name)(learning_rate=0.02))
    params, state, ours = dict(START), tx.init(START), []
    optimizer = getattr(keras.optimizers, name)(learning_rate=0.02)
    variables = {key: keras.Variable(value) for key, value in START.items()}
    optimizer.build(list(variables.values()))
    theirs = []
    for _ in range(STEPS):
        value, grads = value_and_grad(params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        ours.append(value)
        value, grads = value_and_grad({key: variable.value for key, variable in variables.items()})
        optimizer.apply([grads[key] for key in variables])
        theirs.append(value)
    assert theirs[-1] < 0.98 * theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("kind", ["average", "factor", "dynamic"])
def test_fit_ends_with_averages_and_scales_losses_as_keras_does(kind):
    def make(lib):
        if kind == "dynamic":
            return lib.optimizers.LossScaleOptimizer(lib.optimizers.SGD(0.01))
        arguments = {"average": {"use_ema": True, "ema_momentum": 0.5}, "factor": {"loss_scale_factor": 16.0}}
        return lib.optimizers.SGD(0.01, **arguments[kind])

    x = np.random.default_rng(1).normal(size=(16, 3)).astype("float32")
    found = []
    for lib in (ef, keras):
        model = lib.Sequential([lib.layers.Dense(1, kernel_initializer="ones")])
        model.compile(make(lib), "mse")
        history = model.fit(x, x[:, :1], batch_size=8, epochs=2, shuffle=False, verbose=0).history
        found.append([*history["loss"], *np.asarray(model.layers[0].kernel).ravel()])
    np.testing.assert_allclose(*found, rtol=1e-5)
