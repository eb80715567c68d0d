"""`Bidirectional` and `TimeDistributed` against their layers called one by one."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers, nnx
from easyflax.layers import Bidirectional, TimeDistributed

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32"))
MASK = jnp.array([[True, True, False, False], [True, True, True, True]])


class Sum(layers.Layer):
    state_size = 3

    def call(self, inputs, states):
        return states[0] + inputs, [states[0] + inputs]


MERGED = {
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
    "concat": lambda a, b: jnp.concatenate([a, b], -1),
}


@pytest.mark.parametrize("merge_mode", MERGED)
def test_outputs_are_those_of_both_directions(merge_mode):
    layer = Bidirectional(layers.RNN(Sum(), return_sequences=True), merge_mode)
    forward = jnp.cumsum(X, axis=1)
    backward = jnp.cumsum(X[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(layer(X), MERGED[merge_mode](forward, backward), rtol=1e-5, atol=1e-6)


def test_without_merging_outputs_and_states_come_side_by_side():
    layer = Bidirectional(layers.LSTM(2, return_state=True), merge_mode=None)
    forward, backward, *states = layer(X)
    assert len(states) == 4
    assert jnp.array_equal(forward, states[0])
    assert jnp.array_equal(backward, states[2])
    again = layer([X, *states])
    assert jnp.array_equal(again[0], layer(X, initial_state=states)[0])
    assert not jnp.array_equal(again[0], forward)


@pytest.mark.slow
def test_both_directions_skip_what_is_masked():
    layer = Bidirectional(layers.GRU(2, return_sequences=True))
    outputs = layer(X, mask=MASK)
    assert not outputs[0, 2:].any()
    np.testing.assert_allclose(outputs[:1, :2], layer(X[:1, :2]), rtol=1e-5, atol=1e-6)
    assert layer.compute_mask(None, MASK) is MASK


def test_the_layer_that_is_given_is_not_used_itself():
    given = layers.LSTM(2, dropout=0.5)
    given(X)
    layer = Bidirectional(given, name="both")
    layer(X)
    assert (layer.forward_layer.name, layer.backward_layer.name) == ("forward_lstm", "backward_lstm")
    assert not np.array_equal(layer.forward_layer.get_weights()[0], given.get_weights()[0])
    again = Bidirectional.from_config(layer.get_config())
    again(X)
    again.set_weights(layer.get_weights())
    np.testing.assert_allclose(again(X), layer(X), rtol=1e-6)


def test_first_weights_are_set_when_it_is_built():
    weights = Bidirectional(layers.SimpleRNN(2))
    weights(X)
    layer = Bidirectional(layers.SimpleRNN(2), weights=weights.get_weights())
    assert jnp.array_equal(layer(X), weights(X))


def test_both_layers_are_stateful():
    layer = Bidirectional(layers.RNN(Sum(), stateful=True))
    first, second = layer(X), layer(X)
    np.testing.assert_allclose(second, 2 * first, rtol=1e-5)
    assert len(layer.states) == 2
    layer.reset_state()
    assert jnp.array_equal(layer(X), first)


def test_a_bidirectional_layer_is_called_on_symbolic_values():
    x = ef.Input((None, 3))
    outputs = Bidirectional(layers.LSTM(2, return_sequences=True))(x)
    assert outputs.shape == (None, None, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge_mode": "max"}, r"got merge_mode='max', expected one of"),
        ({"layer": layers.InputLayer((2,))}, r"got layer=InputLayer, expected a recurrent layer"),
        ({"backward_layer": layers.LSTM(2)}, r"two layers with go_backwards=False"),
        ({"backward_layer": layers.LSTM(2, go_backwards=True, return_state=True)}, r"return_state=False and"),
    ],
    ids=["merge_mode", "layer", "direction", "differs"],
)
def test_bad_arguments_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        Bidirectional(**{"layer": layers.LSTM(2), **options})


def test_states_of_a_layer_that_keeps_none_cannot_be_reset():
    with pytest.raises(AttributeError, match=r"keeps no states"):
        Bidirectional(layers.LSTM(2)).reset_state()


# -- TimeDistributed


def test_each_step_goes_through_the_same_layer():
    linear = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    outputs = TimeDistributed(linear)(X)
    for t in range(4):
        np.testing.assert_allclose(outputs[:, t], linear(X[:, t]), rtol=1e-5, atol=1e-6)
    assert TimeDistributed(layers.LSTM(2))(ef.Input((None, 5, 3))).shape == (None, None, 2)


def test_statistics_are_those_of_each_step():
    norm = nnx.BatchNorm(3, momentum=0.5, rngs=nnx.Rngs(0))
    layer = TimeDistributed(norm)
    outputs = layer(X, training=True)
    np.testing.assert_allclose(outputs.mean(0), jnp.zeros((4, 3)), atol=1e-5)
    mean = 0
    for t in range(4):
        mean = 0.5 * mean + 0.5 * X[:, t].mean(0)
    np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-5, atol=1e-6)


def test_masks_go_to_each_row():
    layer = TimeDistributed(layers.RNN(Sum()))
    x = jnp.ones((2, 2, 3, 3))
    mask = jnp.array([[[True, True, False], [True, False, False]]] * 2)
    assert layer(x, mask=mask)[0, :, 0].tolist() == [2, 1]


def test_bad_input_of_a_layer_for_each_step_is_told():
    with pytest.raises(ValueError, match=r"got layer=.*Lambda"):
        TimeDistributed(jnp.sin)
    with pytest.raises(ValueError, match=r"expected \(batch, time, \.\.\.\) with one axis more"):
        TimeDistributed(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))(X[0])
    with pytest.raises(ValueError, match=r"got a mask of shape \(2, 3\)"):
        TimeDistributed(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))(X, mask=MASK[:, :3])
