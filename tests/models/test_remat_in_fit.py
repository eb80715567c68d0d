"""`compile(remat=)`: what is computed again, for every kind of model, and that training is the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers, nnx
from easyflax.data import Batch
from easyflax.distribution import DataParallel
from easyflax.train.additions import StepShape

RNG = np.random.default_rng(0)
X = RNG.normal(size=(21, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 21)
LOSS = ef.losses.SparseCategoricalCrossentropy(from_logits=True)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(6, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(16, 6, rngs=rngs)

    def __call__(self, x):
        return x + self.out(self.drop(nnx.gelu(self.norm(self.hidden(x)))))


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def _dense(units, seed, **options):
    return layers.Dense(units, kernel_initializer=ef.initializers.GlorotUniform(seed=seed), **options)


def _layers():
    return [
        _dense(8, 1, activation="gelu", name="first"),
        layers.BatchNormalization(),
        layers.Dropout(0.3, seed=1),
        _dense(3, 2),
    ]


def _functional():
    inputs = ef.Input((6,))
    x = inputs
    for layer in _layers():
        x = layer(x)
    return ef.Model(inputs, x)


class _OwnCall(ef.Model):
    def __init__(self):
        super().__init__()
        self.parts = _layers()

    def call(self, inputs):
        for part in self.parts:
            inputs = part(inputs)
        return inputs


class _OwnStep(ef.Model):
    def train_step(self, data):
        x, y = data

        def loss_of(model):
            return self.compute_loss(x, y, model(x, training=True))

        loss, grads = nnx.value_and_grad(loss_of)(self)
        self.optimizer.update(self, grads)
        return {"loss": loss}


class _StatelessStep(ef.Sequential):
    def train_step(self, state, data):
        trainable, non_trainable, optimizer, metrics = state
        x, y = data

        def loss_of(trainable):
            outputs, changed = self.stateless_call(trainable, non_trainable, x, training=True)
            return self.compute_loss(x, y, outputs), changed

        (loss, non_trainable), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
        return {"loss": loss}, (trainable, non_trainable, optimizer, metrics)


# Each with what to rematerialise by name, how many modules that is, and how many all are.
KINDS = {
    "module": (lambda: ef.Model(Net()), ["blocks.*"], 2, 3),
    "sequential": (lambda: ef.Sequential([ef.Input((6,)), *_layers()]), ["first"], 1, 4),
    "functional": (_functional, ["first", "dropout"], 2, 4),
    "within a model": (lambda: ef.Sequential([ef.Input((6,)), _functional()]), ["functional"], 1, 4),
    "own call": (_OwnCall, ["parts.0"], 1, 4),
    "own step": (lambda: _OwnStep(Net()), ["blocks.0", "head"], 2, 3),
    "stateless step": (lambda: _StatelessStep([ef.Input((6,)), *_layers()]), ["first"], 1, 4),
    "mixed": (
        lambda: ef.Sequential([ef.Input((6,)), Block(nnx.Rngs(0)), _dense(3, 1)]),
        ["layers.0"],
        1,
        2,
    ),
}


def _fitted(kind, remat, **options):
    model = KINDS[kind][0]()
    one = DataParallel(jax.devices()[:1])
    model.compile(ef.optimizers.SGD(0.1), LOSS, remat=remat, distribution=one, **options)
    history = model.fit(X, Y, batch_size=7, epochs=1, verbose=0, shuffle=False)
    return model, history.history["loss"]


def _barriers(model):
    """How many calls are rematerialised: each lowers to one barrier, before its second computation."""
    text = model.lowered_step(Batch(X[:7], Y[:7]), StepShape()).as_text()
    return text.count("stablehlo.optimization_barrier")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_rematerialised_where_asked(kind):
    make, names, some, every = KINDS[kind]
    model = make()
    model(X)  # builds what has no weights yet
    for remat, number in ((None, 0), (names, some), ("full", every)):
        model.compile("sgd", LOSS, remat=remat)
        assert _barriers(model) == number


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["module", "sequential", "own step", "stateless step"])
def test_training_is_the_same(kind):
    plain, expected = _fitted(kind, None)
    model, losses = _fitted(kind, "full")
    assert losses == pytest.approx(expected, rel=1e-5)
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("remat", "number"),
    [
        (None, 0),
        ("activations", 1),
        ("dots_saveable", 4),
        (ef.RematScope("larger_than", output_size_threshold=55), 3),
        (ef.RematScope("larger_than", output_size_threshold=56), 0),
        (ef.RematScope(None), 0),
    ],
    ids=["none", "activations", "policy", "larger", "none larger", "off"],
)
def test_modes_and_policies(remat, number):
    model = KINDS["sequential"][0]()
    model.compile("sgd", LOSS, remat=remat)
    assert _barriers(model) == number


def test_a_models_own_scope_is_what_it_is_trained_with():
    with ef.RematScope():
        model = ef.Model(Net())
    model.compile("sgd", LOSS)
    assert _barriers(model) == 3


def test_layers_with_a_scope_of_their_own_keep_to_it():
    with ef.RematScope(None):
        kept = _dense(8, 1)
    model = ef.Sequential([ef.Input((6,)), kept, _dense(3, 2)])
    model.compile("sgd", LOSS, remat="full")
    assert _barriers(model) == 1


@pytest.mark.slow
def test_a_deep_model_needs_less_memory():
    def temporary_bytes(remat):
        hidden = [layers.Dense(32, activation="gelu") for _ in range(24)]
        model = ef.Sequential([ef.Input((32,)), *hidden, layers.Dense(3)])
        model.compile("sgd", LOSS, remat=remat, distribution=DataParallel(jax.devices()[:1]))
        batch = Batch(np.zeros((4096, 32), np.float32), np.zeros(4096, np.int32))
        return model.lowered_step(batch, StepShape()).compile().memory_analysis().temp_size_in_bytes

    # The output of a layer has 32 floats for 4096 rows. Without it about four such arrays of each of the 24
    # layers wait for the gradient, with it no more than two.
    output = 4096 * 32 * 4
    assert temporary_bytes(None) > 24 * 3.5 * output
    assert temporary_bytes("full") < 24 * 2.2 * output


@pytest.mark.slow
def test_precision_and_accumulation_go_with_it():
    options = {"precision": "mixed_bfloat16", "gradient_accumulation_steps": 2}
    _, expected = _fitted("sequential", None, **options)
    _, losses = _fitted("sequential", "full", **options)
    assert losses == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    ("remat", "message"),
    [
        ("ful", r"Unknown remat of compile 'ful': .* Did you mean 'full'"),
        ("larger_than", r"Unknown remat of compile 'larger_than'"),
    ],
)
def test_an_unknown_name_is_refused_by_compile(remat, message):
    with pytest.raises(ValueError, match=message):
        KINDS["module"][0]().compile("sgd", LOSS, remat=remat)


def test_what_names_no_layers_is_refused_by_compile():
    with pytest.raises(TypeError, match=r"compile: remat is 3, expected 'full', 'activations', names of"):
        KINDS["module"][0]().compile("sgd", LOSS, remat=3)


def test_names_and_activations_that_a_model_does_not_have_are_refused():
    model = KINDS["sequential"][0]()
    model.compile("sgd", LOSS, remat=["frist"])
    with pytest.raises(ValueError, match=r"Unknown layer in compile\(remat=\) 'frist': .* mean 'first'"):
        model.fit(X, Y, verbose=0)
    model = KINDS["module"][0]()
    model.compile("sgd", LOSS, remat="activations")
    with pytest.raises(ValueError, match=r"no module of Net has an attribute `activation`, expected one"):
        model.fit(X, Y, verbose=0)


@pytest.mark.slow
def test_a_step_computed_eagerly_is_the_same():
    _, expected = _fitted("sequential", None)
    _, losses = _fitted("sequential", "full", run_eagerly=True)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert jnp.isfinite(losses[0])


def test_a_model_with_nothing_to_compute_again_piece_by_piece_is_refused():
    model = ef.Model(nnx.Linear(6, 3, rngs=nnx.Rngs(0)))
    model.compile("sgd", LOSS, remat="full")
    with pytest.raises(ValueError, match=r"Linear holds no modules to be computed again one by one, expect"):
        model.fit(X, Y, verbose=0)
