"""Keras as the oracle: the same steps with regularizers, constraints, activity losses and frozen layers.

Losses agree to 1e-5 relative, weights to 1e-5 absolute: both compute in float32, in other orders.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax.nnx as nnx
import easyflax.optimizers as optimizers
from easyflax.constraints import NonNeg, UnitNorm
from easyflax.layers.loss_term import add_loss
from easyflax.models import Model
from easyflax.regularizers import L1, L2

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(21, 5)).astype("float32"), RNG.normal(size=(21, 2)).astype("float32")
X_VAL, Y_VAL = RNG.normal(size=(11, 5)).astype("float32"), RNG.normal(size=(11, 2)).astype("float32")


class Net(nnx.Module):
    def __init__(self, activity=False):
        rngs = nnx.Rngs(0)
        self.body = nnx.Linear(
            5, 4, rngs=rngs, kernel_metadata={"regularizer": L2(0.05), "constraint": NonNeg()}
        )
        self.norm = nnx.BatchNorm(4, momentum=0.9, epsilon=1e-3, rngs=rngs)
        self.head = nnx.Linear(
            4,
            2,
            rngs=rngs,
            kernel_metadata={"constraint": UnitNorm()},
            bias_metadata={"regularizer": L1(0.02)},
        )
        self.activity = activity

    def __call__(self, x):
        x = self.body(x)
        if self.activity:
            add_loss(self, 0.03 * jnp.sum(x**2) / len(x))
        return self.head(nnx.relu(self.norm(x)))


def _keras_model(activity):
    layers = keras.layers
    body = layers.Dense(
        4,
        kernel_regularizer=keras.regularizers.L2(0.05),
        kernel_constraint="non_neg",
        activity_regularizer=keras.regularizers.L2(0.03) if activity else None,
    )
    head = layers.Dense(2, kernel_constraint="unit_norm", bias_regularizer=keras.regularizers.L1(0.02))
    norm = layers.BatchNormalization(momentum=0.9)
    return keras.Sequential([keras.Input((5,)), body, norm, layers.ReLU(), head])


def _with_weights_of(net, keras_model):
    body, norm, _, head = keras_model.layers
    net.body.kernel.value, net.body.bias.value = map(jnp.asarray, body.get_weights())
    gamma, beta, mean, var = map(jnp.asarray, norm.get_weights())
    net.norm.scale.value, net.norm.bias.value = gamma, beta
    net.norm.mean.value, net.norm.var.value = mean, var
    net.head.kernel.value, net.head.bias.value = map(jnp.asarray, head.get_weights())


def _weights(net):
    body, norm, head = net.body, net.norm, net.head
    of_norm = [norm.scale, norm.bias, norm.mean, norm.var]
    return [np.asarray(v.value) for v in (body.kernel, body.bias, *of_norm, head.kernel, head.bias)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frozen", "activity"), [("none", False), ("body", True), ("norm", True)], ids=["all", "body", "norm"]
)
def test_losses_and_weights_are_those_of_keras(frozen, activity):
    keras.utils.set_random_seed(1)
    theirs, net = _keras_model(activity), Net(activity)
    _with_weights_of(net, theirs)
    if frozen != "none":
        theirs.layers[["body", "norm"].index(frozen)].trainable = False
        getattr(net, frozen).trainable = False
    options = {
        "batch_size": 8,
        "epochs": 3,
        "shuffle": False,
        "verbose": 0,
        "validation_data": (X_VAL, Y_VAL),
    }
    theirs.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    expected = theirs.fit(X, Y, **options).history
    ours = Model(net)
    ours.compile(optimizers.SGD(0.1, momentum=0.9), "mse")
    history = ours.fit(X, Y, **options).history
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert history["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
    for got, wanted in zip(_weights(net), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
