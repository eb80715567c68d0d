"""One model of everything: layers, NNX modules, modules of flax.nnx and functions, in models in models."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import easyflax as ef
import easyflax.nnx as nnx
from easyflax import layers

ROWS = 24
X = np.random.default_rng(0).normal(size=(ROWS, 8, 8, 1)).astype("float32")
Y = X.mean(axis=(1, 2))


class FlaxBlock(flax_nnx.Module):
    def __init__(self, features, rngs):
        self.linear = flax_nnx.Linear(features, features, rngs=rngs)
        self.norm = flax_nnx.BatchNorm(features, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return x + self.norm(flax_nnx.relu(self.linear(x)))


class OurBlock(nnx.Module):
    """A module with a layer in it that is built when it is called."""

    def __init__(self, features, rngs):
        self.linear = nnx.Linear(features, features, rngs=rngs)
        self.lazy = layers.Dense(features, activation="tanh")

    def __call__(self, x):
        return self.lazy(self.linear(x))


class Net(ef.Model):
    """A subclass that holds a model between symbolic values, which holds a Sequential."""

    def __init__(self, block):
        super().__init__()
        stem = ef.Sequential(
            [
                layers.Conv2D(3, 3, strides=2, kernel_regularizer="l2"),
                layers.BatchNormalization(),
                nnx.relu,
                layers.Flatten(),
                nnx.Linear(27, 6, rngs=nnx.Rngs(1)),
                lambda x: x * 0.5,
            ]
        )
        inputs = ef.Input((8, 8, 1))
        features = stem(inputs)
        left, right = ef.apply(block, features), OurBlock(6, nnx.Rngs(2))(features)
        both = ef.apply(jnp.concatenate, [left, right], axis=-1)
        self.body = ef.Model(inputs, [both + 1.0, layers.Dropout(0.1, seed=0)(both)])
        self.heads = [nnx.Linear(12, 1, rngs=nnx.Rngs(3)), flax_nnx.Linear(12, 1, rngs=flax_nnx.Rngs(4))]

    def call(self, x, training=None):
        first, second = self.body(x, training=training)
        return self.heads[0](first) + self.heads[1](second)


def make() -> tuple[Any, Any]:
    """Returns a model, built, and the module of flax.nnx that was given to it."""
    ef.utils.set_random_seed(0)
    block = FlaxBlock(6, flax_nnx.Rngs(0))
    model = Net(block)
    model(X)
    return model, block


@pytest.fixture(scope="module")
def trained() -> SimpleNamespace:
    """Holds a model and the module of flax.nnx in it, the losses, the weights before, and what it
    predicts."""
    model, block = make()
    before = model.get_weights()
    model.compile(ef.optimizers.Adam(0.01), "mse")
    history = model.fit(X, Y, batch_size=8, epochs=8, shuffle=False, verbose=0)
    predicted = model.predict(X, verbose=0)
    return SimpleNamespace(
        model=model, block=block, losses=history.history["loss"], before=before, predicted=predicted
    )


@pytest.mark.slow
def test_all_parts_of_a_mixed_model_are_trained(trained):
    assert trained.losses[-1] < 0.5 * trained.losses[0]
    for old, new in zip(trained.before, trained.model.get_weights(), strict=True):
        assert np.abs(new - old).max() > 0


@pytest.mark.slow
def test_a_mixed_model_is_trained_in_place(trained):
    np.testing.assert_allclose(trained.model(X), trained.predicted, rtol=1e-5, atol=1e-5)
    shapes = {"kernel": (6, 6), "bias": (6,)}
    weights = trained.model.get_weights()
    for name, shape in shapes.items():
        held = np.asarray(getattr(trained.block.linear, name)[...])
        assert any(weight.shape == shape and np.array_equal(weight, held) for weight in weights)
    fresh = FlaxBlock(6, flax_nnx.Rngs(0))
    assert np.abs(trained.block.linear.kernel[...] - fresh.linear.kernel[...]).max() > 0
    assert np.abs(trained.block.norm.mean[...]).max() > 0


@pytest.mark.slow
def test_a_mixed_model_counts_each_part_once(trained):
    stem = (9 * 3 + 3) + 4 * 3 + (27 * 6 + 6)
    flax_block, our_block, heads = (36 + 6) + 4 * 6, 2 * (36 + 6), 2 * 13
    assert trained.model.count_params() == stem + flax_block + our_block + heads
    assert trained.model.count_params() == sum(weight.size for weight in trained.before)


@pytest.mark.slow
def test_a_mixed_model_takes_the_weights_of_an_equal_one(trained, tmp_path):
    trained.model.save_weights(tmp_path / "mixed.safetensors")
    for transfer in (
        lambda other: other.set_weights(trained.model.get_weights()),
        lambda other: other.load_weights(tmp_path / "mixed.safetensors"),
    ):
        other, _ = make()
        transfer(other)
        np.testing.assert_allclose(other.predict(X, verbose=0), trained.predicted, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_summary_of_a_mixed_model_shows_its_parts(trained, capsys):
    trained.model.summary(expand_nested=True)
    shown = capsys.readouterr().out
    for name in ("Conv2D", "Sequential", "Linear", "FlaxBlock", "OurBlock"):
        assert name in shown
