"""Clones have new layers of the same configurations, as in Keras, and weights of their own."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

import easyflax
from easyflax import models, nnx


def _functional(keras):
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    number = keras.Input((3,), name="number")
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5, activation="relu")], name="inner")
    shared = layers.Dense(6, name="shared")
    x = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(image))
    x = layers.Dropout(0.25, name="drop")(shared(layers.Dense(6)(x)))
    y = shared(layers.Dense(6)(number)) * 2.0
    both = layers.Concatenate()([inner(x), y])
    return keras.Model(
        {"image": image, "number": number}, {"a": layers.Dense(2, name="a")(both), "b": both[:, :3]}
    )


def _sequential(keras):
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(1)]
    )


def _told(model):
    return (
        [layer.name for layer in model.layers],
        [tuple(w.shape) for w in model.weights],
        model.count_params(),
    )


@pytest.mark.parametrize("make", [_functional, _sequential], ids=["functional", "sequential"])
def test_a_clone_has_the_layers_and_new_weights(make):
    ours, theirs = make(easyflax), make(keras)
    clone, their_clone = models.clone_model(ours), keras.models.clone_model(theirs)
    assert type(clone) is type(ours)
    assert _told(clone)[1:] == _told(their_clone)[1:] == _told(ours)[1:]
    assert _told(clone)[0] == _told(ours)[0]
    assert not any(new is old for new, old in zip(clone.layers, ours.layers))
    weights = [np.random.default_rng(0).normal(size=w.shape) * 0.3 for w in theirs.weights]
    clone.set_weights(weights)
    their_clone.set_weights(weights)
    x = {"image": np.ones((2, 8, 8, 1), "f"), "number": np.ones((2, 3), "f")}
    x = x if make is _functional else np.ones((2, 4), "f")
    got, expected = clone.predict(x, verbose=0), their_clone.predict(x, verbose=0)
    for ours, theirs in zip(
        nnx.to_flat_state(got) if False else _leaves(got), _leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def _leaves(tree):
    return [tree[name] for name in sorted(tree)] if isinstance(tree, dict) else [tree]


def test_a_function_chooses_the_layers_of_the_clone_those_of_inner_models_too():
    names = {keras: set(), easyflax: set()}
    for library in names:

        def quiet(layer, library=library):
            names[library].add(layer.name)
            if isinstance(layer, library.layers.Dropout):
                return library.layers.Dropout(0.75, name=layer.name)
            return type(layer).from_config(layer.get_config())

        clone = library.models.clone_model(_functional(library), clone_function=quiet, recursive=True)
        assert clone.get_layer("drop").rate == 0.75
    assert {"conv", "shared", "a", "drop"} <= names[keras] & names[easyflax]
    assert "inner" not in names[easyflax]


def test_a_clone_can_begin_with_other_inputs():
    x = easyflax.Input((4,), name="other")
    clone = models.clone_model(_sequential(easyflax), input_tensors=x)
    assert clone.input is x
    clone = models.clone_model(
        easyflax.Model(x, easyflax.layers.Dense(2)(x)), easyflax.Input((4,), name="third")
    )
    assert clone.input.name == "third"


def test_what_has_no_configuration_is_told():
    with pytest.raises(TypeError, match="expected a model"):
        models.clone_model(3)
    plain = easyflax.Sequential([easyflax.Input((4,)), nnx.Linear(4, 2, rngs=nnx.Rngs(0))])
    with pytest.raises(TypeError, match=r"Linear has no configuration to make it anew from.*nnx.clone"):
        models.clone_model(plain)
    kept = models.clone_model(plain, clone_function=nnx.clone)
    np.testing.assert_array_equal(kept.get_weights()[0], plain.get_weights()[0])


def test_a_model_of_ones_own_is_made_from_its_configuration():
    class Net(easyflax.Model):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.dense = easyflax.layers.Dense(units)

        def call(self, x):
            return self.dense(x)

    net = Net(3)
    clone = models.clone_model(net)
    assert clone.units == 3
    assert clone.dense is not net.dense
    assert clone(np.ones((2, 4))).shape == (2, 3)
