"""Keras on JAX as the oracle: initializers, regularizers, constraints and draws, their configurations."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax.constraints as constraints
import easyflax.initializers as initializers
import easyflax.random as random
import easyflax.regularizers as regularizers
import easyflax.serialization as serialization
import easyflax.utils as utils

SHAPES = [(5, 7), (3, 2, 4, 6)]

DRAWS = [
    ("RandomNormal", {"mean": 1.0, "stddev": 2.0}),
    ("RandomUniform", {"minval": -1.0, "maxval": 3.0}),
    ("TruncatedNormal", {"stddev": 0.5}),
    ("VarianceScaling", {"scale": 3.0, "mode": "fan_out", "distribution": "untruncated_normal"}),
    ("VarianceScaling", {"distribution": "normal", "input_axes": [1], "output_axes": [0]}),
    ("GlorotUniform", {}),
    ("GlorotNormal", {}),
    ("HeUniform", {}),
    ("HeNormal", {}),
    ("LecunUniform", {}),
    ("LecunNormal", {}),
    ("Orthogonal", {"gain": 2.0}),
]
CONSTANTS = [("Zeros", {}), ("Ones", {}), ("Constant", {"value": 3.0}), ("Identity", {"gain": 2.0})]
PENALTIES = [
    ("L1", {}),
    ("L2", {"l2": 0.3}),
    ("L1L2", {"l1": 0.1, "l2": 0.2}),
    ("OrthogonalRegularizer", {}),
    ("OrthogonalRegularizer", {"factor": 0.5, "mode": "columns"}),
]
LIMITS = [
    ("MaxNorm", {"max_value": 1.5}),
    ("MaxNorm", {"axis": 1}),
    ("NonNeg", {}),
    ("UnitNorm", {"axis": [0, 1]}),
    ("MinMaxNorm", {"min_value": 1.0, "max_value": 2.0, "rate": 0.5}),
]
FAMILIES = [
    (initializers, keras.initializers, DRAWS + CONSTANTS),
    (regularizers, keras.regularizers, PENALTIES),
    (constraints, keras.constraints, LIMITS),
]
ALL = [
    pytest.param(ours, theirs, name, kwargs, id=f"{name}-{number}")
    for ours, theirs, cases in FAMILIES
    for number, (name, kwargs) in enumerate(cases)
]


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "kwargs"), DRAWS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(DRAWS)])
def test_a_seeded_initializer_draws_what_keras_draws(name, kwargs, shape):
    ours = getattr(initializers, name)(**kwargs, seed=5)
    theirs = getattr(keras.initializers, name)(**kwargs, seed=5)
    close(ours(shape), theirs(shape))


@pytest.mark.parametrize(("name", "kwargs"), CONSTANTS, ids=[name for name, _ in CONSTANTS])
def test_an_initializer_that_draws_nothing_fills_as_keras_does(name, kwargs):
    ours, theirs = getattr(initializers, name)(**kwargs), getattr(keras.initializers, name)(**kwargs)
    close(ours((3, 4), "bfloat16").astype("float32"), theirs((3, 4), "bfloat16").astype("float32"))


@pytest.mark.parametrize(
    ("name", "kwargs"), PENALTIES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(PENALTIES)]
)
def test_a_regularizer_gives_the_penalty_of_keras(name, kwargs):
    x = jax.random.normal(jax.random.key(0), (5, 4))
    close(getattr(regularizers, name)(**kwargs)(x), getattr(keras.regularizers, name)(**kwargs)(x))


@pytest.mark.parametrize(("name", "kwargs"), LIMITS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(LIMITS)])
def test_a_constraint_gives_the_weights_of_keras(name, kwargs):
    w = 3 * jax.random.normal(jax.random.key(0), (5, 4))
    close(getattr(constraints, name)(**kwargs)(w), getattr(keras.constraints, name)(**kwargs)(w))


@pytest.mark.parametrize(("ours", "theirs", "name", "kwargs"), ALL)
def test_configurations_are_those_of_keras_and_pass_both_ways(ours, theirs, name, kwargs):
    mine, keras_own = getattr(ours, name)(**kwargs), getattr(theirs, name)(**kwargs)
    # Keras leaves the gain out of Identity's configuration, and rounds some strengths to float32.
    for key, value in keras_own.get_config().items():
        assert mine.get_config()[key] == (pytest.approx(value) if isinstance(value, float) else value)
    written = {**keras.saving.serialize_keras_object(keras_own), "config": mine.get_config()}
    assert ours.deserialize(written) == mine == ours.get(written)
    assert serialization.serialize(mine) == {
        **written,
        "module": written["module"].replace("keras", "easyflax"),
    }
    assert keras.saving.deserialize_keras_object(written).get_config() == keras_own.get_config()


@pytest.mark.parametrize(("ours", "theirs"), [family[:2] for family in FAMILIES], ids=["init", "reg", "con"])
def test_every_public_class_of_keras_is_here_with_its_arguments(ours, theirs):
    names = {n for n in dir(theirs) if inspect.isclass(getattr(theirs, n)) and "stft" not in n.lower()}
    assert names <= set(ours.__all__)
    for name in sorted(names):
        mine, keras_own = getattr(ours, name), getattr(theirs, name)
        if keras_own.__init__ is not object.__init__:
            mine = {k: p.default for k, p in inspect.signature(mine).parameters.items()}
            assert mine == {k: p.default for k, p in inspect.signature(keras_own).parameters.items()}, name
        if name not in ("l1", "l2", "Initializer"):
            assert type(ours.get(name)).__name__ == getattr(theirs, name).__name__


@pytest.mark.parametrize(
    "name", ["glorot_uniform", "zeros", "zero", "one", "normal", "uniform", "random_normal"]
)
def test_names_of_initializers_stand_for_the_same_as_in_keras(name):
    assert type(initializers.get(name)).__name__ == type(keras.initializers.get(name)).__name__


def generators():
    return random.SeedGenerator(9), keras.random.SeedGenerator(9)


CALLS = [
    ("normal", ((3, 2),), {"mean": 1.0, "stddev": 2.0}),
    ("truncated_normal", ((3, 2),), {"stddev": 2.0}),
    ("uniform", ((3, 2),), {"minval": -1.0, "maxval": 1.0, "dtype": "bfloat16"}),
    ("randint", ((3, 2),), {"minval": 0, "maxval": 9}),
    ("categorical", (jnp.log(jnp.array([[0.1, 0.9], [0.5, 0.5]])), 4), {}),
    ("dropout", (jnp.ones((4, 6)), 0.5), {}),
    ("dropout", (jnp.ones((4, 6)), 0.3), {"noise_shape": (None, 1)}),
    ("shuffle", (jnp.arange(8),), {}),
    ("gamma", ((3,), 2.0), {}),
    ("beta", ((3,), 2.0, 3.0), {}),
    ("binomial", ((3,), 10.0, 0.4), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=[f"{c[0]}-{i}" for i, c in enumerate(CALLS)])
def test_seeded_draws_are_those_of_keras_from_integers_and_from_generators(name, args, kwargs):
    mine, keras_own = generators()
    for _ in range(2):
        ours = getattr(random, name)(*args, **kwargs, seed=mine)
        theirs = getattr(keras.random, name)(*args, **kwargs, seed=keras_own)
        assert ours.dtype == theirs.dtype
        close(ours.astype("float32"), theirs.astype("float32"))
    close(
        getattr(random, name)(*args, **kwargs, seed=4).astype("float32"),
        getattr(keras.random, name)(*args, **kwargs, seed=4).astype("float32"),
    )


def test_random_functions_take_the_arguments_of_keras():
    for name in [
        "normal",
        "uniform",
        "randint",
        "categorical",
        "dropout",
        "shuffle",
        "gamma",
        "beta",
        "binomial",
    ]:
        ours, theirs = (
            inspect.signature(getattr(random, name)),
            inspect.signature(getattr(keras.random, name)),
        )
        assert [(p.name, p.default) for p in ours.parameters.values()] == [
            (p.name, p.default) for p in theirs.parameters.values()
        ]


@pytest.mark.parametrize(
    "labels", [[0, 2, 1], [[1], [3]], np.array([[0, 1], [1, 2]])], ids=["list", "column", "matrix"]
)
@pytest.mark.parametrize("classes", [None, 5])
def test_to_categorical_gives_the_rows_of_keras(labels, classes):
    ours, theirs = utils.to_categorical(labels, classes), keras.utils.to_categorical(labels, classes)
    assert ours.dtype == theirs.dtype
    close(ours, theirs)


@pytest.mark.parametrize("order", [1, 2])
def test_normalize_gives_what_keras_gives(order):
    x = np.random.default_rng(0).normal(size=(3, 4))
    close(utils.normalize(x, order=order), keras.utils.normalize(x, order=order))
    close(utils.normalize(jnp.asarray(x), 0, order), keras.utils.normalize(jnp.asarray(x), 0, order))


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 2, 5])
def test_pad_sequences_gives_what_keras_gives(padding, maxlen):
    sequences = [[1, 2, 3], [4], [], [5, 6]]
    kwargs = {"maxlen": maxlen, "padding": padding, "truncating": padding, "value": 7}
    close(utils.pad_sequences(sequences, **kwargs), keras.utils.pad_sequences(sequences, **kwargs))
