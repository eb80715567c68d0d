"""Several batches make the update of one batch of all their rows: held to that, and to a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax
from easyflax import callbacks, layers, losses, optimizers
from easyflax.callbacks import GradientAccumulation
from easyflax.distribution import DataParallel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 5)).astype(np.float32)
CLASSES = RNG.integers(0, 3, 64)
WEIGHTS = RNG.uniform(0.0, 2.0, 64).astype(np.float32)


def _model(optimizer, devices=1, loss="sparse_categorical_crossentropy", **options):
    easyflax.utils.set_random_seed(0)
    model = easyflax.Sequential(
        [
            easyflax.Input((5,)),
            layers.Dense(4, activation="tanh", kernel_regularizer="l2"),
            layers.Dense(3),
        ]
    )
    layout = DataParallel(jax.devices()[:devices])
    model.compile(optimizer=optimizer(), loss=loss, distribution=layout, **options)
    return model


def _adam():
    return optimizers.Adam(0.01)


def _sgd():
    return optimizers.SGD(0.1, momentum=0.9)


def _trained(model, batch_size, callbacks=(), epochs=2, **data):
    x, y = data.pop("x", X), data.pop("y", CLASSES)
    given = {"shuffle": False, "verbose": 0, "callbacks": list(callbacks), **data}
    model.fit(x, y, batch_size=batch_size, epochs=epochs, **given)
    return model.get_weights()


def _assert_same(got, expected, atol=1e-6):
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=atol)


@pytest.mark.sampled(6)
@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [_sgd, _adam], ids=["sgd", "adam"])
@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(
    ("options", "atol"),
    [
        ({}, 1e-6),
        ({"global_clipnorm": 0.1}, 1e-6),
        ({"precision": "mixed_float16"}, 2e-4),
        ({"run_eagerly": True}, 1e-6),
    ],
    ids=["plain", "clipped", "float16", "eager"],
)
def test_four_batches_make_the_update_of_one_of_all_their_rows(optimizer, devices, options, atol):
    several = _model(optimizer, devices, **options)
    whole = _model(optimizer, devices, **options)
    got = _trained(several, 8, [GradientAccumulation(4)])

    _assert_same(got, _trained(whole, 32), atol)
    assert (several.step, int(several.optimizer.iterations)) == (16, 4)
    assert whole.step == 4


@pytest.mark.parametrize("steps_per_execution", [2, 3, 8])
def test_steps_of_one_dispatch_accumulate_as_single_ones_do(steps_per_execution):
    fused = _model(_adam, steps_per_execution=steps_per_execution)
    _assert_same(
        _trained(fused, 8, [GradientAccumulation(4)]),
        _trained(_model(_adam), 8, [GradientAccumulation(4)]),
    )
    assert int(fused.optimizer.iterations) == 4


@pytest.mark.parametrize(
    "loss",
    [
        losses.SparseCategoricalCrossentropy(from_logits=True),
        losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
        losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
    ],
    ids=["mean", "sum", "weighted_mean"],
)
def test_weights_of_rows_and_unequal_batches_count_as_in_one_batch(loss):
    # The last group of an epoch is a batch of 16 and one of 8 rows.
    rows = {"x": X[:56], "y": CLASSES[:56], "sample_weight": WEIGHTS[:56]}
    several = _trained(_model(_sgd, loss=loss), 16, [GradientAccumulation(2)], **rows)
    _assert_same(several, _trained(_model(_sgd, loss=loss), 32, **rows))


def test_masked_positions_count_as_in_one_batch():
    tokens = np.tril(RNG.integers(1, 7, (16, 8)))  # zeros are masked: each row has one token more
    y = RNG.integers(0, 3, (16, 8))

    def weights(batch_size, *given):
        easyflax.utils.set_random_seed(0)
        model = easyflax.Sequential([layers.Embedding(7, 4, mask_zero=True), layers.Dense(3)])
        loss = losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizers.SGD(0.5), loss)
        return _trained(model, batch_size, given, x=tokens, y=y)

    _assert_same(weights(4, GradientAccumulation(4)), weights(16))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("is_known", [True, False], ids=["arrays", "generator"])
def test_what_the_end_of_an_epoch_leaves_over_is_applied_as_in_a_loop_by_hand(devices, is_known):
    # 64 rows in batches of 12: five whole ones and one of 4, in groups of 4: one of four, one of two.
    model = _model(lambda: optax.adam(0.01), devices)
    params = [jnp.asarray(weight) for weight in model.get_weights()]
    optimizer = optax.adam(0.01)
    state = optimizer.init(params)

    def loss_of(params, x, y):
        hidden = jnp.tanh(x @ params[0] + params[1])
        values = optax.softmax_cross_entropy_with_integer_labels(hidden @ params[2] + params[3], y)
        return values.mean() + 0.01 * (params[0] ** 2).sum()

    for group in [slice(0, 48), slice(48, 64)] * 2:
        grads = jax.grad(loss_of)(params, X[group], CLASSES[group])
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)

    def batches():
        for start in range(0, 64, 12):
            yield X[start : start + 12], CLASSES[start : start + 12]

    data = (X, CLASSES) if is_known else (batches,)
    options = {"batch_size": 12, "shuffle": False} if is_known else {}
    model.fit(*data, epochs=2, verbose=0, callbacks=[GradientAccumulation(4)], **options)

    _assert_same(model.get_weights(), params)
    assert int(model.optimizer.iterations) == 4


def test_the_number_of_batches_changes_with_the_epoch_and_compiles_nothing():
    def weights(callback):
        model = _model(_sgd)
        seen = []
        count = callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(int(model.optimizer.iterations))
        )
        return _trained(model, 8, [callback, count], epochs=4), seen

    got, seen = weights(GradientAccumulation({1: 4, 3: 8}))
    assert seen == [8, 10, 12, 13]
    by_hand = _model(_sgd)
    for batch_size, epochs in [(8, 1), (32, 2), (64, 1)]:
        _trained(by_hand, batch_size, epochs=epochs)
    _assert_same(got, by_hand.get_weights())


def test_compile_takes_the_number_too_and_a_loss_of_the_models_own_is_accumulated():
    class Net(easyflax.Model):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return jnp.mean((y_pred[:, 0] - x[:, 0]) ** 2)

    def weights(batch_size, **options):
        easyflax.utils.set_random_seed(0)
        net = Net(easyflax.Sequential([easyflax.Input((5,)), layers.Dense(1)]))
        net.compile(optimizers.SGD(0.1), **options)
        return _trained(net, batch_size)

    _assert_same(weights(8, gradient_accumulation_steps=4), weights(32))


def test_a_group_can_be_continued_from_its_saved_state():
    class StopAfter(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                self.state = jax.tree.map(np.array, accumulation.state_dict())

    class Resume(callbacks.Callback):
        def on_train_begin(self, logs=None):
            accumulation.load_state_dict(saved.state)

    whole, part = _model(_sgd), _model(_sgd)
    expected = _trained(whole, 8, [GradientAccumulation(8)], epochs=1)
    accumulation, saved = GradientAccumulation(8), StopAfter()
    initial = part.get_weights()
    _trained(part, 8, [accumulation, saved], epochs=1)
    part.set_weights(initial)
    part.compile(_sgd(), "sparse_categorical_crossentropy")
    accumulation = GradientAccumulation(8)
    _trained(part, 8, [accumulation, Resume()], epochs=1, x=X[40:], y=CLASSES[40:])
    _assert_same(part.get_weights(), expected)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="got 0 as a number of batches, expected at least 1"):
        GradientAccumulation(0)
    with pytest.raises(TypeError, match=r"got 2\.5 as a number of batches, expected an integer"):
        GradientAccumulation(2.5)
    with pytest.raises(ValueError, match="got -1 as an epoch"):
        GradientAccumulation({-1: 2})
    with pytest.raises(ValueError, match=r"accumulates already, .0: 2., expected it from one place"):
        _trained(_model(_sgd, gradient_accumulation_steps=2), 8, [GradientAccumulation(2)])

    class Net(easyflax.Model):
        def train_step(self, data):
            return {"loss": jnp.zeros(())}

    net = Net(easyflax.Sequential([easyflax.Input((5,)), layers.Dense(1)]))
    net.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has a train_step of its own"):
        net.fit(X, X[:, :1], verbose=0, callbacks=[GradientAccumulation(2)])
