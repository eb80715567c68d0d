"""Keras as the oracle: which layers a `RematScope` has computed again."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
import pytest

import easyflax as ef

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")

CASES = {
    "full": {"mode": "full"},
    "activations": {"mode": "activations"},
    "smaller": {"mode": "larger_than", "output_size_threshold": 47},
    "larger": {"mode": "larger_than", "output_size_threshold": 48},
    "named": {"mode": "list_of_layers", "layer_names": ["one"]},
    "not named": {"mode": "list_of_layers", "layer_names": ["other"]},
    "off": {"mode": None},
}


def _count(library, case):
    with library.RematScope(**CASES[case]):
        layer = library.layers.Dense(8, activation="tanh", name="one")
    layer.build((None, 4))
    jaxpr = jax.make_jaxpr(layer)(X)
    return sum(equation.primitive.name in ("checkpoint", "remat2") for equation in jaxpr.eqns)


@pytest.mark.parametrize("case", CASES)
def test_the_same_layers_are_rematerialised(case):
    assert _count(ef, case) == _count(keras, case)


def test_remat_of_a_function_gives_keras_gradients():
    def f(x):
        return x * x + x

    ours, theirs = jax.grad(lambda x: ef.remat(f)(x).sum()), jax.grad(lambda x: keras.remat(f)(x).sum())
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-6)
