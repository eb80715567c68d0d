"""fit, evaluate and predict against loops written by hand in plain JAX and optax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.nnx as nnx
from easyflax.distribution import DataParallel
from easyflax.models import Model
from easyflax.train.callback import Callback

ROWS, FEATURES, CLASSES = 43, 6, 3


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        # A bias before the normalisation would have a gradient of rounding errors only, which Adam magnifies.
        self.hidden = nnx.Linear(FEATURES, 8, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.relu(self.norm(self.hidden(x)))))


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(ROWS, FEATURES)), generator.integers(0, CLASSES, ROWS)


def _devices(number):
    return DataParallel(jax.devices()[:number])


def _model(devices=1, optimizer=None, **options):
    model = Model(Net())
    options = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **options}
    model.compile(optimizer or optax.adam(1e-2), distribution=_devices(devices), **options)
    return model


def _hand_written(x, y, batch_size, epochs):
    """Returns the mean loss and accuracy of each epoch and the trained net, without any of the trainer."""
    net, tx = Net(), optax.adam(1e-2)
    graphdef, params, rest = nnx.split(net, nnx.Param, ...)
    opt_state = tx.init(params)

    @jax.jit
    def step(params, rest, opt_state, x, y):
        def loss_of(params):
            module = nnx.merge(graphdef, params, rest, copy=True)
            logits = module(x)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
            return loss, (nnx.state(module, nnx.Not(nnx.Param)), (logits.argmax(-1) == y).mean())

        (loss, (rest, accuracy)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), rest, opt_state, loss, accuracy

    means = []
    for epoch in range(epochs):
        order = np.random.Generator(np.random.Philox(key=np.array([0, epoch], np.uint64))).permutation(len(x))
        seen = []
        for start in range(0, len(x), batch_size):
            rows = order[start : start + batch_size]
            xb, yb = x[rows].astype(np.float32), y[rows].astype(np.int32)
            params, rest, opt_state, loss, accuracy = step(params, rest, opt_state, xb, yb)
            seen.append((float(loss), float(accuracy), len(rows)))
        losses, accuracies, sizes = map(np.array, zip(*seen, strict=True))
        means.append(((losses * sizes).sum() / len(x), (accuracies * sizes).sum() / len(x)))
    nnx.update(net, params, rest)
    return np.array(means), net


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("batch_size", [10, 16])
def test_fit_equals_the_loop_written_by_hand(data, devices, batch_size):
    # With batch normalisation, dropout, a ragged last batch, and batches that 8 devices do or do not divide.
    model = _model(devices)
    history = model.fit(*data, batch_size=batch_size, epochs=3, verbose=0)
    means, net = _hand_written(*data, batch_size, 3)
    assert history.history["loss"] == pytest.approx(means[:, 0], rel=2e-6)
    assert history.history["accuracy"] == pytest.approx(means[:, 1], rel=1e-6)
    for ours, theirs in zip(
        *(jax.tree.leaves(nnx.state(each, nnx.BatchStat)) for each in (model.module, net))
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.module.out.kernel.value, net.out.kernel.value, atol=1e-5)
    assert model.module.drop.rngs.count.value == net.drop.rngs.count.value


def test_two_fits_of_one_epoch_train_as_far_as_one_of_two(data):
    twice, once = _model(), _model()
    twice.fit(*data, batch_size=8, epochs=1, verbose=0)
    twice.fit(*data, batch_size=8, epochs=2, initial_epoch=1, verbose=0)
    once.fit(*data, batch_size=8, epochs=2, verbose=0)
    assert all(map(np.array_equal, twice.get_weights(), once.get_weights()))
    assert twice.step == once.step == 12


def test_the_same_run_twice_gives_the_same_bits_and_another_seed_others(data):
    runs = []
    for seed in (3, 3, 4):
        model = _model(8, seed=seed)
        model.fit(*data, batch_size=16, epochs=2, verbose=0)
        runs.append(model.get_weights())
    assert all(map(np.array_equal, runs[0], runs[1]))
    assert not all(map(np.array_equal, runs[0], runs[2]))


def test_unshuffled_rows_are_read_as_they_stand(data):
    class Norms(nnx.Module):
        def __init__(self):
            self.seen = nnx.BatchStat(jnp.zeros(()))
            self.scale = nnx.Param(jnp.ones(()))

        def __call__(self, x):
            self.seen.value = x[0, 0]
            return x * self.scale

    model = Model(Norms())
    model.compile("sgd", "mse")
    firsts = []

    class Look(Callback):
        def on_train_batch_end(self, batch, logs=None):
            firsts.append(float(self.model.module.seen.value))

    x = np.arange(20.0).reshape(10, 2)
    model.fit(x, x, batch_size=3, shuffle=False, verbose=0, callbacks=Look())
    assert firsts == [0, 6, 12, 18]


def test_steps_per_epoch_goes_on_in_the_data_where_the_last_epoch_ended(data):
    short, long = _model(), _model()
    short.fit(*data, batch_size=8, epochs=4, steps_per_epoch=3, verbose=0)
    long.fit(*data, batch_size=8, epochs=2, verbose=0)
    assert all(map(np.array_equal, short.get_weights(), long.get_weights()))


# -- evaluation and prediction


@pytest.fixture(scope="module")
def trained():
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(1003, FEATURES)).astype(np.float32), generator.integers(0, CLASSES, 1003)
    model = _model()
    model.fit(x, y, verbose=0)
    net = nnx.clone(model.module)
    net.eval()
    logits = np.asarray(net(x), np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return model, x, y, -log_probabilities[np.arange(1003), y].mean(), (logits.argmax(-1) == y).mean(), logits


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 1003, 5000])
def test_evaluation_is_exact_for_any_batch_size_and_number_of_devices(trained, devices, batch_size):
    model, x, y, loss, accuracy, _ = trained
    if batch_size == 1:
        x, y = x[:100], y[:100]
        whole = model.evaluate(x, y, batch_size=100, verbose=0)
        loss, accuracy = whole
    other = Model(model.module)
    other.compile(
        "sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], distribution=_devices(devices)
    )
    assert other.evaluate(x, y, batch_size=batch_size, verbose=0) == pytest.approx([loss, accuracy], rel=1e-6)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("batch_size", [7, 64, 1003, 5000])
def test_prediction_gives_exactly_the_rows_in_order(trained, devices, batch_size):
    model, x, *_, logits = trained
    other = Model(model.module)
    other.compile("sgd", "mse", distribution=_devices(devices))
    predicted = other.predict(x, batch_size=batch_size, verbose=0)
    assert isinstance(predicted, np.ndarray)
    assert predicted.shape == (1003, CLASSES)
    np.testing.assert_allclose(predicted, logits, atol=1e-5)


def test_validation_within_fit_equals_evaluation_after_it(data):
    x, y = data
    model = _model(8)
    history = model.fit(
        x, y, batch_size=8, validation_data=(x[:13], y[:13]), validation_batch_size=5, verbose=0
    )
    loss, accuracy = model.evaluate(x[:13], y[:13], verbose=0)
    assert history.history["val_loss"] == [pytest.approx(loss, rel=1e-6)]
    assert history.history["val_accuracy"] == [pytest.approx(accuracy, rel=1e-6)]


def test_validation_split_trains_on_the_head_and_validates_on_the_tail(data):
    x, y = data
    split, given = _model(), _model()
    kept = int(ROWS * 0.75)
    first = split.fit(x, y, validation_split=0.25, verbose=0)
    second = given.fit(x[:kept], y[:kept], validation_data=(x[kept:], y[kept:]), verbose=0)
    assert first.history == second.history


@pytest.mark.parametrize(("freq", "validated"), [(1, [0, 1, 2, 3]), (2, [1, 3]), ([1, 4], [0, 3])])
def test_validation_happens_as_often_as_asked(data, freq, validated):
    epochs = []

    class Note(Callback):
        def on_epoch_end(self, epoch, logs=None):
            if "val_loss" in logs:
                epochs.append(epoch)

    _model().fit(*data, epochs=4, validation_split=0.2, validation_freq=freq, callbacks=[Note()], verbose=0)
    assert epochs == validated


def test_a_loss_of_whole_batches_is_averaged_by_their_rows(data):
    x, y = data
    one_hot = np.eye(CLASSES)[y]

    def whole(y_true, y_pred):
        return jnp.sqrt(jnp.mean((y_true - y_pred) ** 2))

    model = _model(8, loss=whole, metrics=[whole])
    loss, metric = model.evaluate(x, one_hot, batch_size=10, verbose=0)
    predicted = model.predict(x, verbose=0)
    batches = [slice(start, min(start + 10, ROWS)) for start in range(0, ROWS, 10)]
    expected = sum(
        np.sqrt(np.mean((one_hot[rows] - predicted[rows]) ** 2)) * (rows.stop - rows.start)
        for rows in batches
    )
    assert loss == pytest.approx(expected / ROWS, rel=1e-5)
    assert metric == pytest.approx(loss, rel=1e-6)


def test_nested_inputs_and_outputs_keep_their_structure():
    class Two(nnx.Module):
        def __init__(self):
            self.dense = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return {"sum": self.dense(x["a"]) + x["b"][0], "b": x["b"]}

    def loss(y_true, y_pred):
        return jnp.mean((y_true["sum"] - y_pred["sum"]) ** 2, axis=-1)

    x = {"a": np.ones((11, 2)), "b": (np.arange(33.0).reshape(11, 3),)}
    model = Model(Two())
    model.compile(optax.sgd(0.01), loss)
    history = model.fit(x, {"sum": np.ones((11, 3))}, batch_size=4, epochs=2, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]
    predicted = model.predict(x, batch_size=4, verbose=0)
    assert predicted["sum"].shape == (11, 3)
    assert np.array_equal(predicted["b"][0], x["b"][0])


def test_jax_arrays_train_as_numpy_arrays_do(data):
    x, y = data
    with_numpy, with_jax = _model(), _model()
    with_numpy.fit(x, y, verbose=0)
    with_jax.fit(jnp.asarray(x), jnp.asarray(y), verbose=0)
    assert all(map(np.array_equal, with_numpy.get_weights(), with_jax.get_weights()))


@pytest.mark.parametrize(("last", "from_logits"), [(nnx.softmax, False), (None, True)])
def test_a_loss_by_name_takes_what_the_model_ends_in(data, last, from_logits):
    x, y = data
    layers = [nnx.Linear(FEATURES, CLASSES, rngs=nnx.Rngs(0)), *([last] if last else [])]
    model = Model(nnx.Sequential(*layers))
    model.compile("sgd", "sparse_categorical_crossentropy")
    logits = np.asarray(layers[0](jnp.asarray(x, jnp.float32)))
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    assert model.evaluate(x, y, verbose=0) == pytest.approx(float(expected), rel=1e-5)


# -- what stays compiled


def test_steps_are_compiled_once_and_stay_so_across_fits(data):
    traces = []

    class Counted(Net):
        def __call__(self, x):
            traces.append(x.shape)
            return super().__call__(x)

    x, y = (array[:40] for array in data)
    model = Model(Counted())
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=8, epochs=3, validation_data=(x, y), verbose=0)
    before = len(traces)
    model.fit(x, y, batch_size=8, epochs=2, validation_data=(x, y), verbose=0)
    model.evaluate(x, y, batch_size=8, verbose=0)
    model.optimizer.learning_rate = 1e-4
    model.fit(x, y, batch_size=8, verbose=0)
    assert len(traces) == before == 4  # the checks in both modes, the train step, the evaluation step


def test_a_configuration_that_cannot_be_hashed_is_no_obstacle(data):
    @dataclasses.dataclass
    class Config:
        scale: float

    class Scaled(Net):
        def __init__(self, config):
            super().__init__()
            self.config = config

        def __call__(self, x):
            return super().__call__(x) * self.config.scale

    models = [Model(Scaled(Config(scale))) for scale in (1.0, 1.0, 0.0)]
    for model in models:
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(*data, verbose=0)
    first, second, zero = (model.predict(data[0], verbose=0) for model in models)
    assert np.array_equal(first, second)
    assert not zero.any()
    models[0].module.config = Config(0.0)
    assert not models[0].predict(data[0], verbose=0).any()


def test_a_changed_structure_is_noticed(data):
    model = _model()
    model.fit(*data, verbose=0)
    model.module.drop = nnx.Dropout(0.9, rngs=nnx.Rngs(1))
    model.module.hidden = nnx.Linear(FEATURES, 8, rngs=nnx.Rngs(2))
    with pytest.warns(UserWarning, match="the optimizer starts afresh"):
        model.fit(*data, verbose=0)
    assert model.predict(data[0], verbose=0).shape == (ROWS, CLASSES)


class CountsCalls(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
        self.calls = jnp.zeros(())  # an array without a variable

    def __call__(self, x):
        self.calls = self.calls + 1
        return self.layer(x)


def test_arrays_without_a_variable_are_trained_in_place_too():
    module = CountsCalls()
    model = Model(module)
    model.compile(optimizer="sgd", loss="mse")
    x = np.ones((64, 4), np.float32)
    model.fit(x, x.sum(axis=1), epochs=2, verbose=0)
    assert module.calls == 4
    model.fit(x, x.sum(axis=1), epochs=1, verbose=0)
    assert module.calls == 6
    model.predict(x, verbose=0)  # a call in inference mode changes what it changes
    assert module.calls == 8
