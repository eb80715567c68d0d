"""Optimizers that users write for Keras, run here and there as they are."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

import easyflax as ef
from easyflax import nnx, optimizers

# Of Keras, when it reads a variable into a configuration.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(0)
START = {"kernel": RNG.normal(size=(3, 2)).astype("float32"), "bias": np.zeros(2, "float32")}
GRADS = [[RNG.normal(size=value.shape).astype("float32") for value in START.values()] for _ in range(5)]


def _own_class(lib):
    ops = lib.ops

    class Own(lib.optimizers.Optimizer):
        def __init__(self, learning_rate=0.1, momentum=0.9, name="own", **kwargs):
            super().__init__(learning_rate=learning_rate, name=name, **kwargs)
            self.momentum = momentum

        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.momentums, self.squares = self.add_optimizer_variables(variables, ["momentum", "square"])
            self.sizes = [
                self.add_variable_from_reference(one, name="size", initializer="ones")
                for one in variables[:1]
            ]
            self.total = self.add_variable((), name="total")

        def update_step(self, gradient, variable, learning_rate):
            learning_rate = ops.cast(learning_rate, variable.dtype)
            gradient = ops.cast(gradient, variable.dtype)
            row = self._get_variable_index(variable)
            m, square = self.momentums[row], self.squares[row]
            self.assign(m, ops.add(ops.multiply(m, self.momentum), gradient))
            self.assign_add(square, ops.square(gradient))
            self.assign_add(self.total, ops.sum(gradient))
            step = ops.cast(self.iterations + 1, variable.dtype)
            if row == 0:
                self.sizes[0].assign(self.sizes[0] * 0.5)
                gradient = gradient * self.sizes[0]
            change = (m + gradient) / ops.sqrt(square + 1.0) / step + 0.01 * self.total
            self.assign_sub(variable, ops.multiply(learning_rate, change))

        def get_config(self):
            config = super().get_config()
            config.update({"momentum": self.momentum})
            return config

    return Own


@pytest.mark.parametrize(
    "arguments",
    [{}, {"clipnorm": 0.5, "weight_decay": 0.1}, {"gradient_accumulation_steps": 2, "use_ema": True}],
    ids=["plain", "decayed", "accumulated"],
)
def test_an_own_optimizer_does_the_same_steps(arguments):
    theirs = _own_class(keras)(**arguments)
    variables = [keras.Variable(value, name=name) for name, value in START.items()]
    ours = _own_class(ef)(**arguments)
    mine = [nnx.Param(value, name=name) for name, value in START.items()]
    ours.build(mine)
    for grads in GRADS:
        theirs.apply(grads, variables)
        ours.apply(grads, mine)
    for one, other in zip(mine, variables, strict=True):
        np.testing.assert_allclose(one.value, np.asarray(other.value), rtol=1e-5, atol=1e-6)
    assert ours.iterations == int(theirs.iterations)
    assert ours.get_config()["momentum"] == 0.9
    assert ours.get_config().keys() == theirs.get_config().keys()


def test_an_own_optimizer_trains_a_model():
    model = ef.Sequential([ef.layers.Dense(1)])
    optimizer = _own_class(ef)(0.1)
    model.compile(optimizer, "mse")
    x = RNG.normal(size=(32, 3)).astype("float32")
    history = model.fit(x, x.sum(axis=1, keepdims=True), epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert model.optimizer.iterations == 3


def test_an_optimizer_without_a_rule_says_so():
    with pytest.raises(NotImplementedError, match="has no rule, expected one for how gradients become"):
        optimizers.Optimizer(0.1).init({"w": np.ones(2)})
