"""Keras as the oracle: recurrent layers with the same arguments, weights and seeds.

Outputs agree to 1e-5 relative plus 1e-6 absolute: the inputs of all steps are mapped at once here.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5, 4)).astype("float32")
IMAGES = RNG.normal(size=(2, 3, 5, 5, 2)).astype("float32")
LEFT, RIGHT = np.ones((3, 5), bool), np.ones((3, 5), bool)
LEFT[0, :2], LEFT[1, 0], RIGHT[0, 3:], RIGHT[2, 2] = False, False, False, False

NAMES = ["SimpleRNN", "LSTM", "GRU"]
OPTIONS = {
    "plain": {},
    "all": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "return_sequences": True, "use_bias": False},
    "unroll": {"unroll": True, "activation": "relu"},
    "dropout": {"dropout": 0.4, "seed": 5},
    "both-dropouts": {"dropout": 0.4, "recurrent_dropout": 0.3, "seed": 5},
}


def _pair(name, *args, **options):
    return getattr(keras.layers, name)(*args, **options), getattr(layers, name)(*args, **options)


def _assert_equal(theirs, ours, inputs, **call):
    """Copies the weights, and compares shapes, parameter counts and outputs."""
    theirs(inputs), ours(inputs)
    weights = theirs.get_weights()
    assert [one.shape for one in ours.get_weights()] == [one.shape for one in weights]
    assert ours.count_params() == theirs.count_params()
    ours.set_weights(weights)
    for training in (False, True):
        expected = jax.tree.leaves(theirs(inputs, training=training, **call))
        for got, one in zip(jax.tree.leaves(ours(inputs, training=training, **call)), expected, strict=True):
            np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_equal(name, options):
    if not options.get("dropout"):
        _assert_equal(*_pair(name, 3, **options), X)
        return
    theirs, ours = _pair(name, 3, **options)
    theirs.build(X.shape), ours(X)
    ours.set_weights(theirs.get_weights())  # and the first call in training uses the same numbers
    np.testing.assert_allclose(ours(X, training=True), theirs(X, training=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", [LEFT, RIGHT], ids=["left", "right"])
@pytest.mark.parametrize("name", NAMES)
def test_masked_outputs_are_equal(name, mask):
    options = {"return_sequences": True, "return_state": True}
    _assert_equal(*_pair(name, 3, **options), X, mask=jnp.asarray(mask))
    options = {"zero_output_for_mask": True, "go_backwards": True}
    _assert_equal(*_pair(name, 3, **options), X, mask=jnp.asarray(mask))


def test_a_gru_that_resets_before_is_equal():
    _assert_equal(*_pair("GRU", 3, reset_after=False), X)
    theirs, ours = _pair("GRU", 3, reset_after=False, recurrent_dropout=0.5, seed=2)
    theirs.build(X.shape), ours(X)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(X, training=True), theirs(X, training=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_initial_states_are_equal(name):
    states = [jnp.asarray(RNG.normal(size=(3, 3)).astype("float32"))] * (2 if name == "LSTM" else 1)
    _assert_equal(*_pair(name, 3, return_sequences=True), X, initial_state=states, mask=jnp.asarray(LEFT))


def test_stacked_cells_are_equal():
    theirs = keras.layers.RNN([keras.layers.LSTMCell(3), keras.layers.GRUCell(2)], return_sequences=True)
    ours = layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True)
    _assert_equal(theirs, ours, X)
    _assert_equal(theirs, ours, X, mask=jnp.asarray(RIGHT))


def _minimal_cell(base):
    class MinimalCell(base):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.state_size = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="uniform")
            self.recurrent = self.add_weight(shape=(self.units, self.units), initializer="uniform")

        def call(self, inputs, states):
            output = inputs @ self.kernel[...] + states[0] @ self.recurrent[...]
            return output, [output]

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    return MinimalCell


def test_cells_of_users_are_equal():
    their_cell, our_cell = _minimal_cell(keras.layers.Layer), _minimal_cell(layers.Layer)
    theirs, ours = (
        kit.RNN([cell(3), cell(2)], return_sequences=True)
        for kit, cell in ((keras.layers, their_cell), (layers, our_cell))
    )
    _assert_equal(theirs, ours, X)
    with keras.saving.custom_object_scope({"MinimalCell": their_cell}):
        both = keras.layers.Bidirectional(keras.layers.RNN(their_cell(3)))
    _assert_equal(both, layers.Bidirectional(layers.RNN(our_cell(3))), X)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
def test_both_directions_are_equal(merge_mode):
    theirs, ours = (
        kit.Bidirectional(kit.LSTM(2, return_sequences=True, return_state=True), merge_mode=merge_mode)
        for kit in (keras.layers, layers)
    )
    _assert_equal(theirs, ours, X, mask=jnp.asarray(RIGHT))


def test_each_step_through_an_lstm_is_equal():
    theirs, ours = (kit.TimeDistributed(kit.GRU(2)) for kit in (keras.layers, layers))
    _assert_equal(theirs, ours, RNG.normal(size=(2, 3, 4, 2)).astype("float32"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"strides": 2}, {"padding": "same", "dilation_rate": 2, "return_state": True}],
    ids=["strides", "dilation"],
)
def test_convolutional_lstms_are_equal(options):
    _assert_equal(*_pair("ConvLSTM2D", 3, 2, return_sequences=True, **options), IMAGES)
    theirs, ours = _pair("ConvLSTM2D", 3, (2, 3), dropout=0.3, recurrent_dropout=0.2, seed=1, **options)
    theirs.build(IMAGES.shape), ours(IMAGES)
    ours.set_weights(theirs.get_weights())
    for got, one in zip(
        jax.tree.leaves(ours(IMAGES, training=True)), jax.tree.leaves(theirs(IMAGES, training=True))
    ):
        np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"), [("ConvLSTM1D", (2, 3, 5, 2)), ("ConvLSTM3D", (1, 2, 3, 3, 3, 1))]
)
def test_convolutional_lstms_of_other_ranks_are_equal(name, shape):
    _assert_equal(*_pair(name, 2, 2, padding="same"), RNG.normal(size=shape).astype("float32"))


@pytest.mark.slow
def test_an_lstm_classifier_is_equal():
    def model(kit, root):
        return root.Sequential(
            [
                root.Input((5, 4)),
                kit.Bidirectional(kit.LSTM(3, return_sequences=True)),
                kit.GRU(4, return_sequences=True),
                kit.SimpleRNN(2, activation="softmax"),
            ]
        )

    theirs, ours = model(keras.layers, keras), model(layers, ef)
    assert ours.count_params() == theirs.count_params()
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


ALL = [*NAMES, "SimpleRNNCell", "LSTMCell", "GRUCell", "RNN", "StackedRNNCells", "Bidirectional"]
ALL += ["TimeDistributed", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"]


@pytest.mark.parametrize("name", ALL)
def test_arguments_are_those_of_keras(name):
    theirs, ours = (
        {
            parameter.name: parameter.default
            for parameter in inspect.signature(getattr(kit, name).__init__).parameters.values()
        }
        for kit in (keras.layers, layers)
    )
    assert list(ours.items()) == list(theirs.items())


@pytest.mark.parametrize("name", [*NAMES, "LSTMCell", "GRUCell", "SimpleRNNCell"])
def test_configurations_of_keras_are_taken(name):
    config = getattr(keras.layers, name)(3, kernel_regularizer="l2", activation="relu").get_config()
    assert set(config) - {"activity_regularizer"} <= set(getattr(layers, name)(3).get_config())
    ours = getattr(layers, name).from_config({**config, "dtype": "float32"})
    assert ours.get_config()["activation"] == "relu"
    assert ours.kernel_regularizer.get_config() == {"l2": np.float32(0.01)}
