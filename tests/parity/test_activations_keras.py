"""Keras on JAX as the oracle: every activation on the same values."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax.activations as activations
import easyflax.serialization as serialization

NAMES = sorted(
    set(dir(keras.activations)) - {"get", "serialize", "deserialize"} - {n for n in dir() if n[0] == "_"}
)
NAMES = [name for name in NAMES if inspect.isfunction(getattr(keras.activations, name))]
X = np.concatenate(
    [
        np.random.default_rng(0).normal(scale=3, size=(5, 8)),
        np.array([[-100, -6, -3, -1, -0.5, -0.0, 0, 0.2], [0.5, 1, 2, 3, 6, 7, 100, 1e-4]]),
    ]
).astype("float32")
OPTIONS = [
    ("relu", {"negative_slope": 0.1}),
    ("relu", {"max_value": 2.0, "threshold": 1.0}),
    ("relu", {"max_value": 6.0}),
    ("relu", {"negative_slope": 0.3, "max_value": 2.0, "threshold": -1.0}),
    ("leaky_relu", {"negative_slope": 0.01}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 0.5}),
    ("gelu", {"approximate": True}),
    ("glu", {"axis": -1}),
    ("softmax", {"axis": 0}),
    ("softmax", {"axis": (0, 1)}),
    ("log_softmax", {"axis": 0}),
    ("soft_shrink", {"threshold": 1.0}),
    ("hard_shrink", {"threshold": 1.0}),
    ("threshold", {"threshold": 0.3, "default_value": -7.0}),
    ("squareplus", {"b": 1}),
]
# Keras's sparsemax sums the running sums: with two entries or more its rows do not sum to one. Ours is tested
# against the definition in tests/activations.
CASES = [(name, {}) for name in NAMES if name not in ("threshold", "sparsemax")] + OPTIONS


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_activation_equals_kerass(name, kwargs, dtype):
    x = jnp.asarray(X, dtype)
    ours, theirs = getattr(activations, name)(x, **kwargs), getattr(keras.activations, name)(x, **kwargs)
    assert ours.dtype == theirs.dtype
    rtol = 1e-6 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(ours.astype("float32"), theirs.astype("float32"), rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_arguments_and_defaults_are_those_of_keras(name):
    ours = inspect.signature(getattr(activations, name)).parameters.values()
    theirs = inspect.signature(getattr(keras.activations, name)).parameters.values()
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]
    assert activations.get(name) is getattr(activations, name)


@pytest.mark.parametrize("name", NAMES)
def test_an_activation_is_serialized_by_its_name_and_read_from_kerass_form(name):
    function = getattr(activations, name)
    assert activations.serialize(function) == keras.activations.serialize(getattr(keras.activations, name))
    written = keras.saving.serialize_keras_object(getattr(keras.activations, name))
    assert serialization.deserialize(written) is function
    assert serialization.deserialize(serialization.serialize(function)) is function


@pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu", "tanh"])
def test_lists_are_taken_as_in_keras(name):
    ours, theirs = getattr(activations, name), getattr(keras.activations, name)
    np.testing.assert_allclose(ours([[-1.5, 2.0]]), theirs([[-1.5, 2.0]]), rtol=1e-6)
