"""Training with the state split over eight devices is training on one, and each device holds an eighth."""

import functools
import logging
import re

import jax
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers, nnx
from easyflax.callbacks import Callback, ModelCheckpoint, OrbaxCheckpoint
from easyflax.data import Batch
from easyflax.distribution import FSDP, DataParallel
from easyflax.train.additions import StepShape

RNG = np.random.default_rng(0)
X = RNG.normal(size=(67, 64)).astype(np.float32)  # batches of 16 leave three rows
Y = RNG.integers(0, 8, 67)
LOSS = ef.losses.SparseCategoricalCrossentropy(from_logits=True)
SPLIT = 2**15  # bytes; the kernels below have 32 and 128 KiB


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.hidden = nnx.Linear(64, 128, rngs=rngs)
        self.norm = nnx.BatchNorm(128, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.wide = nnx.Linear(128, 256, rngs=rngs)
        self.head = nnx.Linear(256, 8, rngs=rngs)

    def __call__(self, x):
        return self.head(self.wide(self.drop(nnx.relu(self.norm(self.hidden(x))))))


class OwnStep(ef.Model):
    def train_step(self, data):
        x, y = data
        loss, grads = nnx.value_and_grad(lambda model: self.compute_loss(x, y, model(x, training=True)))(self)
        self.optimizer.update(self, grads)
        return {"loss": loss}


def _dense(units, seed):
    return layers.Dense(units, kernel_initializer=ef.initializers.GlorotUniform(seed=seed))


def _sequential():
    parts = [_dense(128, 0), layers.BatchNormalization(), layers.Dropout(0.3, seed=1), _dense(256, 1)]
    return ef.Sequential([ef.Input((64,)), *parts, _dense(8, 2)])


def _module():
    return ef.Model(Net())


class Look(Callback):
    """Notes the bytes of the state on each device, and reads a weight."""

    def __init__(self):
        super().__init__()
        self.bytes = []
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        state = self.model._session.state
        self.bytes.append(_bytes_by_device((state.params, state.opt_state, state.additions)))

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(float(np.abs(self.model.get_weights()[0]).sum()))


def _bytes_by_device(tree):
    found = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            found[shard.device] = found.get(shard.device, 0) + shard.data.nbytes
    return found


def _fitted(make, layout, *, epochs=2, callbacks=(), **options):
    model = make()
    model.compile("adam", LOSS, distribution=layout, **options)
    history = model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model, history.history["loss"]


CASES = {
    "sequential": (_sequential, {}),
    "module": (_module, {"global_clipnorm": 0.5, "ema": 0.9, "steps_per_execution": 2}),
    "accumulating": (_sequential, {"gradient_accumulation_steps": 2, "remat": "full"}),
    "own step": (lambda: OwnStep(Net()), {}),
}


@functools.cache
def _pair(case):
    """Returns what was trained on one device, and on eight with the state split, with what was looked at."""
    make, options = CASES[case]
    looks = Look(), Look()
    one = _fitted(make, DataParallel(jax.devices()[:1]), callbacks=[looks[0]], **options)
    split = _fitted(make, FSDP(min_size=SPLIT), callbacks=[looks[1]], **options)
    return (*one, looks[0]), (*split, looks[1])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_are_those_of_one_device(case):
    (one, expected, look), (split, losses, split_look) = _pair(case)
    assert losses == pytest.approx(expected, rel=2e-5)
    for ours, wanted in zip(split.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=2e-4)
    assert split_look.seen == pytest.approx(look.seen, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_each_device_holds_its_part_of_the_state_at_all_times(case):
    (_, _, look), (_, _, split_look) = _pair(case)
    whole = look.bytes[0][jax.devices()[0]]
    assert len(split_look.bytes) == len(look.bytes)
    for by_device in split_look.bytes:
        assert len(by_device) == 8
        assert max(by_device.values()) == min(by_device.values())
        # Kernels are 93 % of the state. The others are biases, statistics, the last kernel, and counts.
        assert whole / 8 < max(by_device.values()) < whole * (0.93 / 8 + 0.08)


@pytest.fixture
def trained():
    """A model trained on eight devices, and the one trained on one."""
    (one, *_), (split, *_) = _pair("sequential")
    return split, one


@pytest.mark.slow
def test_evaluation_and_prediction_are_those_of_one_device(trained):
    split, one = trained
    assert split.evaluate(X, Y, verbose=0) == pytest.approx(one.evaluate(X, Y, verbose=0), rel=1e-5)
    np.testing.assert_allclose(split.predict(X, verbose=0), one.predict(X, verbose=0), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_weights_stay_split_and_can_be_computed_with(trained):
    split, _ = trained
    kernel = split.weights[0].get_raw_value()
    assert kernel.addressable_shards[0].data.shape == (64, 16)
    np.testing.assert_allclose(split(X), split.predict(X, verbose=0), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_weights_are_saved_whole_and_loaded_into_another_layout(trained, tmp_path):
    split, _ = trained
    split.save_weights(tmp_path / "weights")
    one = _sequential()
    one.load_weights(tmp_path / "weights")
    for ours, expected in zip(one.get_weights(), split.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.slow
def test_a_state_of_one_device_is_split_where_it_is_set(trained):
    _, one = trained
    model = _sequential()
    model.compile("adam", LOSS, distribution=FSDP(min_size=SPLIT))
    model.set_state(one.get_state())
    moments = [leaf for leaf in jax.tree.leaves(model.get_state()["opt_state"]) if leaf.shape == (64, 128)]
    assert [moment.addressable_shards[0].data.shape for moment in moments] == [(64, 16)] * 2
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(one.evaluate(X, Y, verbose=0), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [_sequential, _module], ids=["sequential", "module"])
def test_devices_gather_weights_and_nothing_that_has_rows(make):
    model = make()
    model.compile("adam", LOSS, distribution=FSDP(min_size=SPLIT))
    text = model.lowered_step(Batch(X[:16], Y[:16]), StepShape()).compile().as_text()
    results = [match[1] for match in re.finditer(r" = (\S+) all-gather(-start)?\(", text)]
    shapes = {shape for result in results for shape in re.findall(r"f32\[([\d,]+)\]", result)}
    assert shapes == {"64,128", "128,256"}
    assert "all-to-all" not in text


@pytest.mark.slow
def test_steps_are_compiled_once_and_for_all_fits():
    messages = []

    class Listen(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    class Count(Callback):
        def on_epoch_end(self, epoch, logs=None):
            steps = [one for one in messages if one.startswith("Compiling") and "16,64]" in one]
            counts.append(len(steps))

    counts, listen = [], Listen()
    model, data = _module(), (X[:64], Y[:64])
    model.compile("adam", LOSS, distribution=FSDP(min_size=SPLIT))
    logger = logging.getLogger("jax")
    handlers, logger.handlers = logger.handlers, [listen]
    try:
        with jax.log_compiles():
            for _ in range(2):
                model.fit(*data, batch_size=16, epochs=2, verbose=0, callbacks=[Count()])
    finally:
        logger.handlers = handlers
    assert counts == [1] * 4


@pytest.mark.slow
def test_a_fit_goes_on_from_a_checkpoint_to_the_bit(tmp_path):
    layout = FSDP(min_size=SPLIT)
    whole, _ = _fitted(
        _sequential, layout, epochs=2, callbacks=[ModelCheckpoint(tmp_path / "a", save_freq=3)]
    )
    _fitted(_sequential, layout, epochs=1, callbacks=[ModelCheckpoint(tmp_path / "b", save_freq=3)])
    model = _sequential()
    model.compile("adam", LOSS, distribution=layout)
    model.fit(
        X,
        Y,
        batch_size=16,
        epochs=2,
        verbose=0,
        callbacks=[ModelCheckpoint(tmp_path / "c", save_freq=3)],
        resume_from=tmp_path / "b",
    )
    for ours, expected in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.slow
def test_a_model_made_on_another_device_is_taken_from_there():
    with jax.default_device(jax.devices()[5]):
        model = _module()
    model.compile("sgd", LOSS, distribution=FSDP(jax.devices()[:4], min_size=SPLIT))
    model.fit(X, Y, batch_size=16, verbose=0)
    kernel = model.module.wide.kernel.get_raw_value()
    assert kernel.sharding.device_set == set(jax.devices()[:4])
    assert kernel.addressable_shards[0].data.shape == (128, 64)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_model_comes_back_to_fewer_devices_when_it_is_compiled_for_them(devices):
    model = _module()
    model.compile("sgd", LOSS, distribution=FSDP(min_size=SPLIT))
    model.fit(X[:16], Y[:16], verbose=0)
    before = model.predict(X, verbose=0)
    model.compile("sgd", LOSS, distribution=DataParallel(jax.devices()[:devices]))
    np.testing.assert_allclose(model.predict(X, verbose=0), before, rtol=1e-5, atol=1e-6)
    model.fit(X[:16], Y[:16], verbose=0)
    assert model.module.wide.kernel.get_raw_value().devices() == {jax.devices()[0]}


@pytest.mark.slow
def test_orbax_checkpoints_of_parts_are_gone_on_from(tmp_path):
    layout = FSDP(min_size=SPLIT)
    whole, _ = _fitted(_sequential, layout, callbacks=[OrbaxCheckpoint(tmp_path / "a")])
    _fitted(_sequential, layout, epochs=1, callbacks=[OrbaxCheckpoint(tmp_path / "b")])
    model = _sequential()
    model.compile("adam", LOSS, distribution=layout)
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0, resume_from=tmp_path / "b")
    for ours, expected in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)
