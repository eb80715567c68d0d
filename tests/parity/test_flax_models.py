"""Networks of flax.nnx in `Model`: against the same ones of ours, and against training loops of Flax."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from easyflax.distribution import DataParallel
from easyflax.models import Model

BATCH, EPOCHS, CLASSES = 16, 2, 4


def networks(lib: Any) -> Any:
    """Returns classes of networks, written with the names that `lib`, ours or Flax's, has."""

    class Perceptron(lib.Module):
        def __init__(self, rngs):
            self.hidden = lib.Linear(6, 16, rngs=rngs)
            self.out = lib.Linear(16, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.out(lib.relu(self.hidden(x)))

    class Convolutions(lib.Module):
        def __init__(self, rngs):
            self.conv = lib.Conv(1, 4, (3, 3), use_bias=False, rngs=rngs)
            self.norm = lib.BatchNorm(4, momentum=0.9, rngs=rngs)
            self.drop = lib.Dropout(0.3, rngs=rngs)
            self.out = lib.Linear(4, CLASSES, rngs=rngs)

        def __call__(self, x):
            x = lib.max_pool(lib.relu(self.norm(self.conv(x))), (2, 2), strides=(2, 2))
            return self.out(self.drop(x.mean(axis=(1, 2))))

    class Transformer(lib.Module):
        """A block with attention; classifies the mean over the sequence."""

        def __init__(self, rngs):
            self.embed = lib.Embed(11, 8, rngs=rngs)
            self.norms = lib.List([lib.LayerNorm(8, rngs=rngs) for _ in range(2)])
            self.attention = lib.MultiHeadAttention(2, 8, decode=False, dropout_rate=0.1, rngs=rngs)
            self.feed = lib.Sequential(lib.Linear(8, 16, rngs=rngs), lib.gelu, lib.Linear(16, 8, rngs=rngs))
            self.out = lib.Linear(8, CLASSES, rngs=rngs)

        def __call__(self, tokens):
            x = self.embed(tokens)
            x = x + self.attention(self.norms[0](x))
            x = x + self.feed(self.norms[1](x))
            return self.out(x.mean(axis=1))

    class Recurrent(lib.Module):
        def __init__(self, rngs):
            self.embed = lib.Embed(11, 6, rngs=rngs)
            self.rnn = lib.RNN(lib.LSTMCell(6, 8, rngs=rngs), rngs=rngs)
            self.out = lib.Linear(8, CLASSES, rngs=rngs)

        def __call__(self, tokens):
            return self.out(self.rnn(self.embed(tokens))[:, -1])

    class Siamese(lib.Module):
        """One encoder for both inputs."""

        def __init__(self, rngs):
            self.encoder = lib.Linear(6, 8, rngs=rngs)
            self.encoders = lib.Dict(left=self.encoder, right=self.encoder)
            self.out = lib.Linear(8, CLASSES, rngs=rngs)

        def __call__(self, pair):
            left, right = self.encoders["left"](pair["left"]), self.encoders["right"](pair["right"])
            return self.out(jnp.abs(left - right))

    class UNet(lib.Module):
        """Two levels with a skip; classifies each pixel."""

        def __init__(self, rngs):
            self.down = lib.Conv(1, 4, (3, 3), strides=2, rngs=rngs)
            self.up = lib.ConvTranspose(4, 4, (2, 2), strides=(2, 2), rngs=rngs)
            self.out = lib.Conv(5, CLASSES, (1, 1), rngs=rngs)

        def __call__(self, x):
            return self.out(jnp.concatenate([lib.relu(self.up(lib.relu(self.down(x)))), x], axis=-1))

    return SimpleNamespace(**{name: cls for name, cls in locals().items() if name != "lib"})


OURS, THEIRS = networks(nnx), networks(flax_nnx)
NAMES = sorted(vars(THEIRS))


def data_for(name: str) -> tuple[Any, np.ndarray]:
    """Returns inputs and classes; the last batch of an epoch is a smaller one."""
    generator, rows = np.random.default_rng(0), 40
    shapes = {"Convolutions": (8, 8, 1), "UNet": (8, 8, 1)}
    x: Any = generator.normal(size=(rows, *shapes.get(name, (6,)))).astype("float32")
    if name in ("Transformer", "Recurrent"):
        x = generator.integers(0, 11, (rows, 5)).astype("int32")
    if name == "Siamese":
        x = {"left": x, "right": x[::-1].copy()}
    shape = (rows, 8, 8) if name == "UNet" else (rows,)
    return x, generator.integers(0, CLASSES, shape).astype("int32")


def fit(net: Any, x: Any, y: Any, devices: int, **options: Any) -> tuple[Model, list[float]]:
    model = Model(net)
    layout = DataParallel(jax.devices()[:devices])
    model.compile(optax.adam(1e-2), "sparse_categorical_crossentropy", distribution=layout)
    history = model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, **options)
    return model, history.history["loss"]


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_flax_trains_as_the_same_one_of_ours_to_the_bit(name):
    x, y = data_for(name)
    ours, our_losses = fit(getattr(OURS, name)(nnx.Rngs(0)), x, y, devices=8)
    theirs, losses = fit(getattr(THEIRS, name)(flax_nnx.Rngs(0)), x, y, devices=8)
    assert losses == our_losses
    assert theirs.count_params() == ours.count_params()
    for theirs_array, our_array in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(theirs_array, our_array)
    np.testing.assert_array_equal(theirs.predict(x, verbose=0), ours.predict(x, verbose=0))


def train_by_hand(net: Any, x: Any, y: Any) -> list[float]:
    """Trains as Flax's documentation does; returns the mean loss of each epoch."""
    optimizer = flax_nnx.Optimizer(net, optax.adam(1e-2), wrt=flax_nnx.Param)

    @flax_nnx.jit
    def step(net, optimizer, x, y):
        def loss_of(net):
            return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

        loss, grads = flax_nnx.value_and_grad(loss_of)(net)
        optimizer.update(net, grads)
        return loss

    means = []
    net.train()
    for _ in range(EPOCHS):
        total = 0.0
        for start in range(0, len(y), BATCH):
            rows = slice(start, start + BATCH)
            xb, yb = jax.tree.map(lambda array, rows=rows: array[rows], (x, y))
            total += float(step(net, optimizer, xb, yb)) * len(yb)
        means.append(total / len(y))
    return means


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_fit_trains_as_a_loop_of_flax_does(name):
    """Within rounding: Flax's loop compiles the metrics and the update otherwise than `fit` does."""
    x, y = data_for(name)
    by_hand = getattr(THEIRS, name)(flax_nnx.Rngs(0))
    losses = train_by_hand(by_hand, x, y)
    net = getattr(THEIRS, name)(flax_nnx.Rngs(0))
    model, fitted_losses = fit(net, x, y, devices=1, shuffle=False)
    np.testing.assert_allclose(fitted_losses, losses, rtol=2e-5)
    for (path, leaf), (_, expected) in zip(
        flax_nnx.to_flat_state(flax_nnx.state(net, flax_nnx.Not(flax_nnx.RngKey))),
        flax_nnx.to_flat_state(flax_nnx.state(by_hand, flax_nnx.Not(flax_nnx.RngKey))),
        strict=True,
    ):
        np.testing.assert_allclose(leaf[...], expected[...], rtol=1e-3, atol=1e-4, err_msg=str(path))
    by_hand.eval()
    np.testing.assert_allclose(model.predict(x, verbose=0), by_hand(x), rtol=1e-3, atol=1e-3)
