"""`compile(remat=)` with modules of flax.nnx: as a layer they are computed again in one piece."""

import jax
import numpy as np
import pytest
from flax import nnx as flax_nnx

import easyflax as ef
from easyflax import layers
from easyflax.data import Batch
from easyflax.distribution import DataParallel
from easyflax.train.additions import StepShape

RNG = np.random.default_rng(0)
X = RNG.normal(size=(14, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 14)
LOSS = ef.losses.SparseCategoricalCrossentropy(from_logits=True)


class Block(flax_nnx.Module):
    def __init__(self):
        rngs = flax_nnx.Rngs(0)
        self.hidden = flax_nnx.Linear(6, 8, rngs=rngs)
        self.norm = flax_nnx.BatchNorm(8, rngs=rngs)
        self.drop = flax_nnx.Dropout(0.3, rngs=rngs)

    def __call__(self, x):
        return self.drop(flax_nnx.gelu(self.norm(self.hidden(x))))


def _fitted(remat):
    head = layers.Dense(3, kernel_initializer=ef.initializers.GlorotUniform(seed=1))
    model = ef.Sequential([ef.Input((6,)), Block(), head])
    model.compile("sgd", LOSS, remat=remat, distribution=DataParallel(jax.devices()[:1]))
    return model, model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0).history["loss"]


def test_a_module_of_flax_is_computed_again_and_trains_as_without():
    plain, expected = _fitted(None)
    model, losses = _fitted("full")
    lowered = model.lowered_step(Batch(X[:7], Y[:7]), StepShape())
    assert lowered.as_text().count("stablehlo.optimization_barrier") == 2
    assert losses == pytest.approx(expected, rel=1e-6)
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("remat", "message"),
    [
        ("full", r"holds no modules to be computed again one by one, .* for a module of Flax that of Flax"),
        (["hidden"], r"Unknown layer in compile\(remat=\) 'hidden'"),
    ],
    ids=["full", "named"],
)
def test_parts_of_a_module_of_flax_are_left_to_the_remat_of_flax(remat, message):
    model = ef.Model(Block())
    model.compile("sgd", LOSS, remat=remat)
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y, verbose=0)
