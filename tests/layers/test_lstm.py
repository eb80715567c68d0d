"""`SimpleRNN`, `LSTM`, `GRU` and `ConvLSTM`: one step by hand, dropout, gradients, and messages."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers, nnx

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32"))
LAYERS = [layers.SimpleRNN, layers.LSTM, layers.GRU]


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.slow
def test_a_step_of_an_lstm_is_that_of_the_paper():
    cell = layers.LSTMCell(2, bias_initializer="uniform")
    x, h, c = X[:, 0], X[:, 1, :2], X[:, 2, :2]
    output, (new_h, new_c) = cell(x, [h, c])
    kernel, recurrent_kernel, bias = cell.get_weights()
    i, f, g, o = np.split(np.asarray(x) @ kernel + np.asarray(h) @ recurrent_kernel + bias, 4, axis=-1)
    expected = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(new_c, expected, rtol=1e-5)
    np.testing.assert_allclose(output, _sigmoid(o) * np.tanh(expected), rtol=1e-5)
    assert output is new_h


def test_the_forget_gate_starts_open():
    cell = layers.LSTMCell(2)
    cell(X[:, 0], cell.get_initial_state(2))
    assert cell.bias[...].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", [{}, {"implementation": 1}], ids=["one-mask", "mask-for-each-gate"])
def test_dropout_is_the_same_at_all_steps_and_another_at_each_call(layer, options):
    if layer is layers.SimpleRNN and options:
        pytest.skip("has no gates")
    made = layer(4, dropout=0.5, seed=1, return_sequences=True, **options)
    ones = jnp.ones((1, 3, 6))
    made(ones)
    made.cell.recurrent_kernel[...] *= 0
    assert jnp.array_equal(made(ones), made(ones))
    first, second = made(ones, training=True), made(ones, training=True)
    assert not jnp.array_equal(first, second)
    if layer is layers.SimpleRNN:  # the output depends on the input of the step only
        assert jnp.array_equal(first, jnp.broadcast_to(first[:, :1], first.shape))


@pytest.mark.parametrize("layer", LAYERS)
def test_unrolled_and_looped_give_the_same(layer):
    looped = layer(3, return_sequences=True)
    unrolled = layer(3, return_sequences=True, unroll=True)
    expected = looped(X)
    unrolled(X)
    unrolled.set_weights(looped.get_weights())
    np.testing.assert_allclose(unrolled(X), expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences():
    layer = layers.GRU(2)
    layer(X)
    kernel = layer.cell.kernel[...]

    def loss(change):
        layer.cell.kernel[...] = kernel.at[1, 4].add(change)
        return (layer(X) ** 2).sum()

    expected = (loss(1e-2) - loss(-1e-2)) / 2e-2
    loss(0.0)
    grads = nnx.grad(lambda layer: (layer(X) ** 2).sum())(layer)
    np.testing.assert_allclose(grads.cell.kernel[...][1, 4], expected, rtol=1e-2)


def test_regularizers_and_constraints_are_kept_with_the_weights():
    layer = layers.LSTM(2, recurrent_regularizer="l2", bias_constraint="non_neg")
    layer(X)
    assert layer.cell.recurrent_kernel.get_metadata()["regularizer"] is layer.recurrent_regularizer
    assert layer.cell.bias.get_metadata()["constraint"] is layer.bias_constraint
    assert float(layer.losses[0]) > 0


@pytest.mark.slow
def test_an_lstm_learns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4, 1)).astype("float32")
    y = x.sum(1)
    model = ef.Sequential([layers.LSTM(8, dropout=0.0), nnx.Linear(8, 1, rngs=nnx.Rngs(0))])
    model.compile(optimizer=ef.optimizers.Adam(0.03), loss="mse")
    history = model.fit(x, y, batch_size=32, epochs=15, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] / 3


@pytest.mark.parametrize("layer", LAYERS)
def test_configurations_make_equal_layers(layer):
    made = layer(3, activation="relu", dropout=0.1, kernel_regularizer="l1", return_state=True, name="mine")
    again = layer.from_config(made.get_config())
    assert again.get_config() == made.get_config()
    assert "cell" not in made.get_config()
    assert made.get_config()["activation"] == "relu"


@pytest.mark.slow
def test_channels_first_is_channels_last_with_axes_moved():
    last = layers.ConvLSTM2D(2, 3, padding="same", return_sequences=True)
    first = layers.ConvLSTM2D(2, 3, padding="same", return_sequences=True, data_format="channels_first")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 4, 5, 3)).astype("float32"))
    moved = jnp.moveaxis(x, -1, 2)
    expected = last(x)
    first(moved)
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(jnp.moveaxis(first(moved), 2, -1), expected, rtol=1e-5, atol=1e-6)
    assert first.rank == 2
    assert first.kernel_size == (3, 3)


@pytest.mark.slow
def test_masks_leave_out_images():
    layer = layers.ConvLSTM1D(2, 2)
    x = jnp.ones((1, 3, 4, 1)).at[:, 1].set(7.0)
    masked = layer(x, mask=jnp.array([[True, False, True]]))
    np.testing.assert_allclose(masked, layer(x[:, ::2]), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.LSTM(0), r"LSTMCell: got units=0, expected a positive integer"),
        (lambda: layers.GRU(2, dropout=1.5), r"GRUCell: got dropout=1.5, expected a share from 0 to 1"),
        (lambda: layers.GRU(2, use_cudnn=True), r"GRU: got use_cudnn=True, expected 'auto' or False"),
        (lambda: layers.ConvLSTM2D(2, (3,)), r"got kernel_size=\(3,\), expected one integer or 2"),
        (lambda: layers.ConvLSTM2D(2, 3, padding="causal"), r"got padding='causal', expected one of"),
        (lambda: layers.ConvLSTM1D(2, 3, strides=2, dilation_rate=2), r"expected one of them to be 1"),
        (lambda: layers.ConvLSTM1D(2, 3)(ef.Input((None, None, 1))), r"expected known sizes of all axes"),
    ],
    ids=["units", "dropout", "use_cudnn", "kernel_size", "padding", "dilation", "free"],
)
def test_bad_arguments_are_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_other_sizes_than_those_at_first_are_told():
    layer = layers.LSTM(2, name="reader")
    layer(X)
    with pytest.raises(ValueError, match=r"input has 2 features in its last axis, expected 3"):
        layer(X[..., :2])
    conv = layers.ConvLSTM1D(2, 2)
    conv(jnp.ones((1, 2, 4, 1)))
    with pytest.raises(ValueError, match=r"got inputs of shape \(5, 1\) at each step, expected \(4, 1\)"):
        conv(jnp.ones((1, 2, 5, 1)))
    with pytest.raises(TypeError, match=r"LSTM: got the unknown argument 'unit'"):
        layers.LSTM(2, unit=3)
