"""The ten models of `ten_models.py` as networks of flax.nnx, handed to `ef.Model` as they are.

With the weights of the models of `ef.layers`, which `test_ten_models_keras.py` compares with Keras's, outputs
and the losses of training agree to 1e-5 relative.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import easyflax as ef
from tests.parity.ten_models import MODELS, inputs_for

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5


class Perceptron(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(12, 16, kernel_metadata={"regularizer": ef.regularizers.L2()}, rngs=rngs)
        self.second = nnx.Linear(16, 8, rngs=rngs)
        self.out = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        return nnx.softmax(self.out(jnp.tanh(self.second(nnx.relu(self.hidden(x))))))


class LeNet(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 6, (5, 5), rngs=rngs)
        self.conv2 = nnx.Conv(6, 16, (5, 5), padding="VALID", rngs=rngs)
        self.dense1 = nnx.Linear(400, 120, rngs=rngs)
        self.dense2 = nnx.Linear(120, 84, rngs=rngs)
        self.out = nnx.Linear(84, 10, rngs=rngs)

    def __call__(self, x):
        for conv in (self.conv1, self.conv2):
            x = nnx.avg_pool(jnp.tanh(conv(x)), (2, 2), strides=(2, 2))
        x = jnp.tanh(self.dense1(x.reshape(len(x), -1)))
        return self.out(jnp.tanh(self.dense2(x)))


def norm(features, rngs):
    return nnx.BatchNorm(features, momentum=0.99, epsilon=1e-3, rngs=rngs)


class Residual(nnx.Module):
    def __init__(self, inputs, filters, strides, rngs):
        options = {"use_bias": False, "rngs": rngs}
        self.conv1 = nnx.Conv(inputs, filters, (3, 3), strides, **options)
        self.norm1 = norm(filters, rngs)
        self.is_smaller = strides > 1
        if self.is_smaller:
            self.shortcut = nnx.Conv(inputs, filters, (1, 1), strides, **options)
        self.conv2 = nnx.Conv(filters, filters, (3, 3), **options)
        if self.is_smaller:
            self.shortcut_norm = norm(filters, rngs)
        self.norm2 = norm(filters, rngs)

    def __call__(self, x):
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu((self.shortcut_norm(self.shortcut(x)) if self.is_smaller else x) + y)


class ResNet18(nnx.Module):
    def __init__(self, rngs, width=2):
        self.conv = nnx.Conv(3, width, (3, 3), use_bias=False, rngs=rngs)
        self.norm = norm(width, rngs)
        self.blocks = nnx.List([])
        inputs = width
        for stage in range(4):
            for number in range(2):
                filters = width * 2**stage
                self.blocks.append(Residual(inputs, filters, 2 if stage and not number else 1, rngs))
                inputs = filters
        self.out = nnx.Linear(inputs, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(axis=(1, 2)))


class DoubleConv(nnx.Module):
    def __init__(self, inputs, filters, rngs):
        self.first = nnx.Conv(inputs, filters, (3, 3), rngs=rngs)
        self.second = nnx.Conv(filters, filters, (3, 3), rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.second(nnx.relu(self.first(x))))


class Up(nnx.Module):
    def __init__(self, inputs, filters, rngs):
        self.conv = nnx.ConvTranspose(inputs, filters, (2, 2), (2, 2), transpose_kernel=True, rngs=rngs)
        self.merge = DoubleConv(2 * filters, filters, rngs)

    def __call__(self, x, skip):
        return self.merge(jnp.concatenate([self.conv(x), skip], axis=-1))


class UNet(nnx.Module):
    def __init__(self, rngs):
        self.down = nnx.List([DoubleConv(1, 2, rngs), DoubleConv(2, 4, rngs)])
        self.bottom = DoubleConv(4, 8, rngs)
        self.up = nnx.List([Up(8, 4, rngs), Up(4, 2, rngs)])
        self.out = nnx.Conv(2, 3, (1, 1), rngs=rngs)

    def __call__(self, x):
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        x = self.bottom(x)
        for up in self.up:
            x = up(x, skips.pop())
        return nnx.softmax(self.out(x))


class LSTMClassifier(nnx.Module):
    """Of sequences that end in zeros, which both recurrent layers leave out."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(20, 6, rngs=rngs)
        self.forward = nnx.RNN(nnx.OptimizedLSTMCell(6, 5, rngs=rngs), rngs=rngs)
        self.backward = nnx.RNN(
            nnx.OptimizedLSTMCell(6, 5, rngs=rngs), reverse=True, keep_order=True, rngs=rngs
        )
        self.last = nnx.RNN(nnx.OptimizedLSTMCell(10, 4, rngs=rngs), return_carry=True, rngs=rngs)
        self.out = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, tokens):
        lengths = (tokens != 0).sum(axis=1)
        x = self.embed(tokens)
        both = [rnn(x, seq_lengths=lengths) for rnn in (self.forward, self.backward)]
        (_, hidden), _ = self.last(jnp.concatenate(both, axis=-1), seq_lengths=lengths)
        return nnx.softmax(self.out(hidden))


class Block(nnx.Module):
    def __init__(self, width, heads, hidden, rngs):
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.feed1 = nnx.Linear(width, hidden, rngs=rngs)
        self.feed2 = nnx.Linear(hidden, width, rngs=rngs)
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)

    def __call__(self, x):
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.feed2(nnx.gelu(self.feed1(x), approximate=False)))


class Transformer(nnx.Module):
    def __init__(self, rngs):
        self.positions = nnx.Param(rngs.normal((6, 8)))
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        self.blocks = nnx.List([Block(8, 2, 12, rngs) for _ in range(2)])
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(axis=1))


class Siamese(nnx.Module):
    """One encoder for both inputs."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 3, (3, 3), 2, padding="VALID", rngs=rngs)
        self.dense = nnx.Linear(27, 6, rngs=rngs)
        self.project = nnx.Linear(6, 4, use_bias=False, rngs=rngs)
        self.same = nnx.Linear(5, 1, rngs=rngs)

    def encode(self, x):
        x = nnx.relu(self.conv(x))
        return self.project(jnp.tanh(self.dense(x.reshape(len(x), -1))))

    def __call__(self, pair):
        a, b = map(self.encode, pair)
        norms = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
        cosine = ((a * b).sum(axis=1) / norms)[:, None]
        return nnx.sigmoid(self.same(jnp.concatenate([abs(a - b), cosine], axis=1)))


class WideAndDeep(nnx.Module):
    def __init__(self, rngs):
        self.cities = nnx.Embed(10, 4, rngs=rngs)
        self.hidden = nnx.List([])
        for inputs, size in ((11, 8), (8, 6)):
            self.hidden.append(nnx.Linear(inputs, size, rngs=rngs))
            self.hidden.append(nnx.BatchNorm(size, momentum=0.9, epsilon=1e-3, rngs=rngs))
        self.wide = nnx.Linear(7, 1, rngs=rngs)
        self.deep = nnx.Linear(6, 1, rngs=rngs)

    def __call__(self, inputs):
        age, features = inputs["age"], inputs["features"]
        deep = jnp.concatenate([age, self.cities(inputs["city"][:, 0]), features], axis=1)
        for layer in self.hidden:
            deep = nnx.relu(layer(deep)) if isinstance(layer, nnx.Linear) else layer(deep)
        return self.wide(jnp.concatenate([features, age], axis=1)) + self.deep(deep)


class Autoencoder(nnx.Module):
    def __init__(self, rngs):
        self.encoder = nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(64, 5, rngs=rngs), nnx.relu)
        self.decoder = nnx.Sequential(nnx.Linear(5, 64, rngs=rngs), nnx.sigmoid)

    def __call__(self, x):
        return self.decoder(self.encoder(x)).reshape(x.shape)


class MultiTask(nnx.Module):
    def __init__(self, rngs):
        self.trunk = nnx.Linear(10, 12, rngs=rngs)
        self.norm = nnx.LayerNorm(12, epsilon=1e-3, rngs=rngs)
        self.logits = nnx.Linear(12, 4, rngs=rngs)
        self.box = nnx.Linear(12, 4, rngs=rngs)
        self.score = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        x = self.norm(nnx.leaky_relu(self.trunk(x), 0.1))
        kind = self.logits(x)
        return {
            "kind": nnx.softmax(kind),
            "score": self.score(jnp.concatenate([x, kind], axis=1)),
            "box": 2 * nnx.sigmoid(self.box(x)) - 1,
        }


NETWORKS = {
    "perceptron": Perceptron,
    "lenet": LeNet,
    "resnet18": ResNet18,
    "unet": UNet,
    "lstm_classifier": LSTMClassifier,
    "transformer": Transformer,
    "siamese": Siamese,
    "wide_and_deep": WideAndDeep,
    "autoencoder": Autoencoder,
    "multi_task": MultiTask,
}

# In which order Keras's layers hold what Flax's modules have under these names.
ORDER = {name: place for place, name in enumerate(("kernel", "scale", "bias", "mean", "var"))}


def variables_of(module: Any) -> list[Any]:
    """Returns the parameters and running averages in the order in which the attributes were made."""
    found: list[Any] = []
    for _, value in sorted(vars(module).items(), key=lambda item: ORDER.get(item[0], 0)):
        if isinstance(value, nnx.Param | nnx.BatchStat):
            found.append(value)
        elif isinstance(value, nnx.Pytree):
            found.extend(variables_of(value))
    return found


def make_both(name: str) -> tuple[Any, Any]:
    """Returns a network of Flax, and the model of `ef.layers` with the same weights and without dropout."""
    options = {"rate": 0.0} if name in ("perceptron", "lstm_classifier", "transformer") else {}
    ef.utils.set_random_seed(0)
    layered = MODELS[name](ef, **options)
    if not layered.built:
        layered(inputs_for(name))
    rng = np.random.default_rng(1)  # no weight is to be 0 or 1, as biases and scales are at first
    weights = [weight + rng.uniform(0.01, 0.1, weight.shape) for weight in layered.get_weights()]
    layered.set_weights([weight.astype("float32") for weight in weights])
    net = NETWORKS[name](nnx.Rngs(0))
    for variable, weight in zip(variables_of(net), layered.get_weights(), strict=True):
        assert variable.shape == weight.shape
        variable[...] = jnp.asarray(weight)
    return net, layered


def assert_close(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_flax_has_the_outputs_of_the_layers(name):
    net, layered = make_both(name)
    x = inputs_for(name)
    model = ef.Model(net)
    assert model.module is net
    assert model.count_params() == layered.count_params()
    outputs = model.predict(x, verbose=0)
    assert jax.tree.structure(outputs) == jax.tree.structure(layered.predict(x, verbose=0))
    assert_close(outputs, layered.predict(x, verbose=0))


TRAINED = {
    "perceptron": "sparse_categorical_crossentropy",
    "lenet": "sparse_categorical_crossentropy",
    "lstm_classifier": "sparse_categorical_crossentropy",
    "transformer": "sparse_categorical_crossentropy",
    "siamese": "binary_crossentropy",
    "wide_and_deep": "mse",
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_network_of_flax_trains_as_the_layers(name):
    net, layered = make_both(name)
    rows = 20  # of an epoch's three batches the last is smaller
    x, rng = inputs_for(name, rows), np.random.default_rng(2)
    y = rng.integers(0, 2, rows)
    if name in ("siamese", "wide_and_deep"):
        y = y[:, None].astype("float32")
    losses = []
    for model in (ef.Model(net), layered):
        model.compile(ef.optimizers.SGD(0.02, momentum=0.9), TRAINED[name])
        history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=TOLERANCE)
    for variable, weight in zip(variables_of(net), layered.get_weights(), strict=True):
        np.testing.assert_allclose(variable[...], weight, rtol=10 * TOLERANCE, atol=TOLERANCE)
