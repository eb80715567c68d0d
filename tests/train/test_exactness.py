"""Evaluation, prediction and training do not depend on batch size, number of devices, or kind of data.

Evaluation agrees to 2e-6 relative (sums in float32, in other orders), prediction row by row to 1e-6, training
with a plain loop in JAX and optax to 1e-6.
"""

import functools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax
import easyflax.nnx as nnx
from easyflax import layers, metrics, utils
from easyflax.distribution import DataParallel
from easyflax.models import Model, Sequential

ROWS = 1003
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 5)).astype(np.float32)
CLASSES = RNG.integers(0, 3, ROWS).astype(np.int32)
BINARY = (RNG.uniform(size=(ROWS, 1)) < 0.3).astype(np.float32)
WEIGHTS = RNG.uniform(0.0, 2.0, ROWS).astype(np.float32)
WEIGHTS[::7] = 0.0
Y = {"label": CLASSES, "flag": BINARY}
PER_OUTPUT = {"label": WEIGHTS, "flag": WEIGHTS}

# -- evaluation and prediction

DEVICES = [1, 2, 8]


def _metrics():
    return {
        "label": ["accuracy", metrics.MeanIoU(3, sparse_y_pred=False, name="iou", dtype="float32")],
        "flag": [metrics.AUC(name="auc"), metrics.Precision(name="precision")],
    }


@functools.cache
def _model(devices):
    inputs = easyflax.Input((5,))
    hidden = layers.BatchNormalization()(layers.Dense(6, activation="tanh")(inputs))
    label = layers.Dense(3, activation="softmax", name="label")(layers.Dropout(0.5)(hidden))
    flag = layers.Dense(1, activation="sigmoid", name="flag")(hidden)
    model = easyflax.Model(inputs, {"label": label, "flag": flag})
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.1, 1.0, weight.shape) for weight in model.get_weights()])
    model.compile(
        "sgd",
        {"label": "sparse_categorical_crossentropy", "flag": "binary_crossentropy"},
        metrics=_metrics(),
        weighted_metrics=_metrics(),
        distribution=DataParallel(jax.devices()[:devices]),
    )
    return model


@functools.cache
def _expected():
    """Returns the outputs for all rows at once, and their losses and metrics, also computed at once."""
    outputs = jax.tree.map(np.asarray, _model(1)(X))
    label, flag = outputs["label"].astype(np.float64), outputs["flag"][:, 0].astype(np.float64)
    losses = {
        "label": -np.log(label[np.arange(ROWS), CLASSES]),
        "flag": -np.log(np.where(BINARY[:, 0] > 0, flag, 1 - flag)),
    }
    logs = {f"{name}_loss": np.sum(WEIGHTS * loss) / ROWS for name, loss in losses.items()}
    logs["loss"] = sum(logs.values())
    hits = label.argmax(1) == CLASSES
    logs["label_accuracy"], logs["label_weighted_accuracy"] = hits.mean(), np.average(hits, weights=WEIGHTS)
    for prefix, weights in (("", None), ("weighted_", WEIGHTS)):
        for name, own in _metrics().items():
            for metric in (one for one in own if isinstance(one, metrics.Metric)):
                metric.update_state(Y[name], outputs[name], sample_weight=weights)
                logs[f"{name}_{prefix}{metric.name}"] = float(metric.result())
    return outputs, logs


SIZES = [pytest.param(1, marks=pytest.mark.slow), 7, 64, ROWS, 5000]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("devices", DEVICES)
def test_evaluation_is_one_number_at_any_batch_size_on_any_number_of_devices(devices, batch_size):
    options = {"batch_size": batch_size, "sample_weight": PER_OUTPUT, "verbose": 0, "return_dict": True}
    logs = _model(devices).evaluate(X, Y, **options)
    expected = _expected()[1]
    assert logs.keys() == expected.keys()
    assert logs == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("devices", DEVICES)
def test_prediction_gives_each_row_once_and_in_order(devices, batch_size):
    outputs = _model(devices).predict(X, batch_size=batch_size, verbose=0)
    for name, expected in _expected()[0].items():
        assert outputs[name].shape == expected.shape == (ROWS, {"label": 3, "flag": 1}[name])
        np.testing.assert_allclose(outputs[name], expected, atol=1e-6)


def _row(i):
    return X[i], {name: y[i] for name, y in Y.items()}, {name: w[i] for name, w in PER_OUTPUT.items()}


def _rows(begin, end):
    return _row(slice(begin, end))


class Rows(utils.PyDataset):
    def __len__(self):
        return -(-ROWS // 64)

    def __getitem__(self, index):
        return _rows(64 * index, 64 * (index + 1))


SOURCES = {
    "generator": lambda: (_rows(begin, begin + 64) for begin in range(0, ROWS, 64)),
    "ragged": lambda: iter([_rows(0, 504), _rows(504, 505), _rows(505, ROWS)]),
    "grain": lambda: grain.MapDataset.range(ROWS).map(_row).batch(64),
    "PyDataset": Rows,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES)
def test_any_kind_of_data_gives_the_numbers_of_arrays(kind):
    outputs, expected = _expected()
    logs = _model(8).evaluate(SOURCES[kind](), verbose=0, return_dict=True)
    assert logs == pytest.approx(expected, rel=2e-6)
    predicted = _model(8).predict(SOURCES[kind](), verbose=0)
    for name, values in outputs.items():
        np.testing.assert_allclose(predicted[name], values, atol=1e-6)


# -- training

TRAINED = 83  # with batches of 20: the last one has 3 rows, which no number of devices divides


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.hidden = nnx.Linear(5, 8, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.relu(self.norm(self.hidden(x)))))


def _flax_style():
    model = Model(Net())
    return model, model.module


def _keras_style():
    # The seeds make a second one of it, for the loop by hand, drop the same entries.
    normal = easyflax.initializers.RandomNormal(seed=1)
    model = Sequential(
        [
            easyflax.Input((5,)),
            layers.Dense(8, use_bias=False, kernel_initializer=normal),
            layers.BatchNormalization(),
            layers.Dropout(0.3, seed=2),
            layers.Dense(3, kernel_initializer=normal),
        ]
    )
    return model, model


STYLES = {"flax": _flax_style, "keras": _keras_style}


def _by_hand(style, weights, epochs):
    """Returns the mean loss of each epoch and the trained parameters, without any of the trainer."""
    module, tx = STYLES[style]()[1], optax.sgd(0.1, momentum=0.9)
    module.train()
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)
    opt_state = tx.init(params)

    @jax.jit
    def step(params, rest, opt_state, x, y, w):
        def loss_of(params):
            copy = nnx.merge(graphdef, params, rest, copy=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(copy(x), y)
            return jnp.sum(w * losses) / len(x), nnx.state(copy, nnx.Not(nnx.Param))

        (loss, rest), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), rest, opt_state, loss

    means = []
    for _ in range(epochs):
        total = 0.0
        for begin in range(0, TRAINED, 20):
            rows = slice(begin, min(begin + 20, TRAINED))
            batch = X[rows], CLASSES[rows], weights[rows]
            params, rest, opt_state, loss = step(params, rest, opt_state, *batch)
            total += float(loss) * (rows.stop - rows.start)
        means.append(total / TRAINED)
    return means, jax.tree.leaves(params), jax.tree.leaves(nnx.filter_state(rest, nnx.BatchStat))


def _fitted(style, devices, *, epochs=3, steps_per_execution=1, **weights):
    model, module = STYLES[style]()
    model.compile(
        optax.sgd(0.1, momentum=0.9),
        easyflax.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution,
        distribution=DataParallel(jax.devices()[:devices]),
    )
    data = X[:TRAINED], CLASSES[:TRAINED]
    history = model.fit(*data, batch_size=20, epochs=epochs, shuffle=False, verbose=0, **weights)
    states = nnx.state(module, nnx.Param), nnx.state(module, nnx.BatchStat)
    return history.history["loss"], *map(jax.tree.leaves, states)


def _assert_equal(ours, theirs):
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    for group, wanted in zip(ours[1:], theirs[1:], strict=True):
        assert len(group) == len(wanted) > 0
        for one, other in zip(group, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


OF_CLASSES = {0: 0.5, 1: 2.0, 2: 1.0}
BY_ROW = {
    "sample_weight": WEIGHTS[:TRAINED],
    "class_weight": np.array([OF_CLASSES[label] for label in CLASSES[:TRAINED]], np.float32),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BY_ROW)
@pytest.mark.parametrize("style", STYLES)
def test_fit_equals_a_loop_by_hand_with_a_ragged_last_batch_and_weights(style, kind):
    given = {"sample_weight": BY_ROW[kind]} if kind == "sample_weight" else {"class_weight": OF_CLASSES}
    expected = _by_hand(style, BY_ROW[kind], epochs=3)
    for devices in (1, 8):
        _assert_equal(_fitted(style, devices, **given), expected)


@pytest.mark.slow
def test_several_steps_of_one_execution_train_as_single_ones_do():
    # Of five batches four are fused, and the ragged one comes alone.
    weights = {"sample_weight": BY_ROW["sample_weight"]}
    _assert_equal(_fitted("flax", 8, steps_per_execution=4, **weights), _fitted("flax", 8, **weights))
