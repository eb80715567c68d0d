"""Parts of a model have the paths and the updates that they have in Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import easyflax as ef
from tests.parity import keras_oracle

keras = keras_oracle.keras
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def sequential(library: Any) -> Any:
    layers = library.layers
    return library.Sequential(
        [library.Input((3,)), layers.Dense(4, "tanh", name="encoder"), layers.Dense(1, name="head")],
        name="chain",
    )


def functional(library: Any) -> Any:
    layers = library.layers
    x = library.Input((3,))
    inner = library.Sequential([layers.Dense(4, "tanh", name="first")], name="encoder")
    return library.Model(x, layers.Dense(1, name="head")(inner(x)))


def subclassed(library: Any) -> Any:
    class Net(library.Model):
        def __init__(self) -> None:
            super().__init__(name="net")
            self.encoder = library.layers.Dense(4, "tanh", name="encoder")
            self.head = library.layers.Dense(1, name="head")

        def call(self, inputs: Any) -> Any:
            return self.head(self.encoder(inputs))

    model = Net()
    model(X)
    return model


@pytest.mark.parametrize("build", [sequential, functional, subclassed], ids=["chain", "graph", "class"])
def test_parts_have_the_paths_of_keras_and_are_trained_alike(build):
    paths: dict[Any, set[str]] = {ef: set(), keras: set()}
    losses, weights = [], None
    for library in (keras, ef):
        optimizers = library.optimizers
        slow, fast = optimizers.RMSprop(0.01), optimizers.AdamW(0.02)

        def choose(variable, library=library, slow=slow, fast=fast):
            paths[library].add(variable.path)
            return slow if "encoder" in variable.path else fast

        model = build(library)
        if weights is None:
            weights = keras_oracle.random_weights([weight.shape for weight in model.weights])
        model.set_weights(weights)
        model.compile(optimizers.MultiOptimizer(choose), "mse")
        history = model.fit(X, Y, epochs=3, batch_size=8, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert paths[ef] == paths[keras]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_a_map_of_keras_is_read_with_what_is_in_it():
    optimizers = keras.optimizers
    theirs = optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.SGD(0.5, name="sgd"), {"head/.*": optimizers.Adam(0.25, name="adam")}
        )
    )
    ours = ef.optimizers.deserialize(optimizers.serialize(theirs))
    assert ours.name == theirs.name
    assert sorted((one.name, one.learning_rate) for one in ours.optimizers) == [("adam", 0.25), ("sgd", 0.5)]
