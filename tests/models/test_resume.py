"""A run that is interrupted at a save and goes on ends, to the bit, as the uninterrupted one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.callbacks import (
    Callback,
    EarlyStopping,
    ExponentialMovingAverage,
    GradientAccumulation,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    WarmupCosine,
)
from easyflax.checkpoint import newest
from easyflax.errors import CheckpointError
from easyflax.metrics import Mean
from easyflax.models import Model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
EPOCHS, BATCHES = 5, 4


def make_model(seed=0, optimizer="adam", **arguments):
    rngs = nnx.Rngs(seed)
    model = Model(
        nnx.Sequential(
            nnx.Linear(3, 4, rngs=rngs),
            nnx.BatchNorm(4, rngs=rngs),
            nnx.Dropout(0.3, rngs=rngs),
            nnx.Linear(4, 1, rngs=rngs),
        )
    )
    model.compile(optimizer=optimizer, loss="mse", metrics=["mae"], **arguments)
    return model


def plain(tree):
    def leaf(value):
        is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(value) if is_key else value)

    return jax.tree.map(leaf, tree)


def assert_same(model, other):
    got, expected = plain(model.get_state()), plain(other.get_state())
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


class Kill(Callback):
    """Ends a run right after a step or an epoch."""

    called_last = True  # after the save

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.place = epoch, batch
        if batch is not None:
            self.on_train_batch_end = self._maybe

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.place == (epoch, None):
            raise KeyboardInterrupt

    def _maybe(self, batch, logs=None):
        if self.place == (self.epoch, batch):
            raise KeyboardInterrupt


def fit(model, *more, x=X, y=Y, early=None, **arguments):
    early = early or EarlyStopping(monitor="loss", patience=1, min_delta=0.2, restore_best_weights=True)
    arguments = {"epochs": EPOCHS, "batch_size": 6, "validation_data": (X[:5], Y[:5]), **arguments}
    history = model.fit(x, y, verbose=0, callbacks=[early, *more], **arguments)
    return history, early


@pytest.fixture(scope="module")
def whole():
    model = make_model()
    return model, *fit(model)


def assert_as(whole, model, history, early):
    assert history.history == whole[1].history
    assert history.epoch == whole[1].epoch
    assert (early.stopped_epoch, early.best, early.best_epoch) == (
        whole[2].stopped_epoch,
        whole[2].best,
        whole[2].best_epoch,
    )
    assert_same(model, whole[0])


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("save_freq", "place"),
    [("epoch", (0, None)), ("epoch", (1, None)), (1, (0, 0)), (1, (1, 2)), (1, (0, 3)), (3, (1, 1))],
    ids=["epoch1", "epoch2", "first-batch", "within", "last-batch", "every-third"],
)
def test_a_run_goes_on_to_the_same_end(whole, tmp_path, save_freq, place):
    assert 1 < len(whole[1].epoch) < EPOCHS  # something stops it
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), ModelCheckpoint(tmp_path, save_freq=save_freq), Kill(*place))
    resumed = make_model(seed=5)
    result = fit(resumed, ModelCheckpoint(tmp_path, save_freq=save_freq), resume_from=tmp_path)
    assert_as(whole, resumed, *result)


class Batches:
    """A dataset to be read one batch after the other."""

    def __iter__(self):
        for begin in range(0, len(X), 6):
            yield X[begin : begin + 6], Y[begin : begin + 6]


def grain_batches():
    import grain

    rows = grain.MapDataset.source(list(zip(X, Y))).seed(3).shuffle()
    return rows.batch(6)


WAYS = {
    "grain": (grain_batches, {}),
    "generator": (lambda: (batch for _ in range(99) for batch in Batches()), {"steps_per_epoch": 3}),
    "function": (lambda: lambda: iter(Batches()), {}),
    "dataset": (Batches, {"steps_per_epoch": 3}),
    "arrays": (lambda: X, {"y": Y, "steps_per_epoch": 3, "batch_size": 6}),
}


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [(0, 1), (1, None)], ids=["within", "between"])
def test_a_run_goes_on_in_its_data(tmp_path, way, place):
    data, arguments = WAYS[way]
    arguments = {"epochs": 3, "verbose": 0, "y": None, **arguments}
    whole = make_model()
    expected = whole.fit(data(), **arguments).history
    with pytest.raises(KeyboardInterrupt):
        make_model().fit(
            data(), callbacks=[ModelCheckpoint(tmp_path, save_freq=1), Kill(*place)], **arguments
        )
    resumed = make_model(seed=5)
    assert resumed.fit(data(), resume_from=tmp_path, **arguments).history == expected
    assert_same(resumed, whole)


@pytest.mark.slow
def test_a_run_goes_on_with_a_group_of_batches_half_done(tmp_path):
    def run(model, *callbacks, **arguments):
        callbacks = [ef_accumulation(), ExponentialMovingAverage(0.5), *callbacks]
        return model.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks, **arguments).history

    def ef_accumulation():
        return GradientAccumulation(3)

    whole = make_model(optimizer="sgd")
    expected = run(whole, validation_data=(X, Y))
    with pytest.raises(KeyboardInterrupt):
        run(
            make_model(optimizer="sgd"),
            ModelCheckpoint(tmp_path, save_freq=1),
            Kill(1, 3),
            validation_data=(X, Y),
        )
    resumed = make_model(seed=5, optimizer="sgd")
    assert run(resumed, resume_from=tmp_path, validation_data=(X, Y)) == expected
    assert_same(resumed, whole)


class OwnStep(Model):
    def __init__(self):
        super().__init__()
        rngs = nnx.Rngs(0)
        self.linear, self.dropout = nnx.Linear(3, 1, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)
        self.mean = Mean(name="mean")

    def call(self, x, training=False):
        return self.dropout(self.linear(x), deterministic=not training)

    def train_step(self, data):
        x, y = data
        loss, grads = nnx.value_and_grad(lambda model: ((model(x, training=True) - y) ** 2).mean())(self)
        self.optimizer.update(self, grads)
        self.mean.update_state(loss)
        return {"loss": loss, "mean": self.mean.result()}

    @property
    def metrics(self):
        return [self.mean]


def make_own():
    model = OwnStep()
    model.compile(optimizer="adam", loss="mse")
    return model


KINDS = {
    "own-step": (make_own, list),
    "several-a-dispatch": (lambda: make_model(steps_per_execution=2), list),
    "half-precision": (lambda: make_model(precision="mixed_float16"), list),
    "average": (lambda: make_model(ema=0.9), list),
    "rates": (make_model, lambda: [ReduceLROnPlateau("loss", patience=1, min_delta=5.0)]),
    "warmup": (make_model, lambda: [WarmupCosine(0.1, 3)]),
    "schedule": (make_model, lambda: [LearningRateScheduler(lambda epoch, rate: rate * 0.9)]),
}


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [(1, 1), (1, None)], ids=["within", "between"])
def test_runs_of_all_kinds_go_on_to_the_same_end(tmp_path, kind, place):
    make, callbacks = KINDS[kind]

    def run(*more, **arguments):
        model = make()
        arguments = {"batch_size": 6, "epochs": 3, "verbose": 0, **arguments}
        return model, model.fit(X, Y, callbacks=[*callbacks(), *more], **arguments).history

    whole, expected = run()
    with pytest.raises(KeyboardInterrupt):
        run(ModelCheckpoint(tmp_path, save_freq="epoch" if place[1] is None else 2), Kill(*place))
    resumed, history = run(resume_from=tmp_path)
    assert history == expected
    assert_same(resumed, whole)


def test_what_holds_no_run_is_refused_before_training(tmp_path):
    model = make_model()
    with pytest.raises(CheckpointError, match="there is no such folder"):
        fit(model, resume_from=tmp_path / "none")
    fit(model, ModelCheckpoint(tmp_path / "weights", save_weights_only=True), epochs=1)
    with pytest.raises(CheckpointError, match=r"holds a model and not a run of fit, expected .* Load it by"):
        fit(model, resume_from=tmp_path / "weights")
    fit(model, ModelCheckpoint(tmp_path / "run"), epochs=1)
    with pytest.raises(ValueError, match=r"initial_epoch is 3 and resume_from is '.*', expected one of them"):
        fit(model, resume_from=tmp_path / "run", initial_epoch=3)
    with pytest.raises(RuntimeError, match="resume was called while no fit of this model runs"):
        model.resume(tmp_path / "run")


def test_the_weights_of_a_whole_checkpoint_can_be_loaded_alone(tmp_path):
    model = make_model()
    fit(model, ModelCheckpoint(tmp_path / "best.keras"), epochs=1, early=Callback())
    other = make_model(seed=3, optimizer="sgd")
    other.load_weights(tmp_path / "best.keras")
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    with pytest.raises(ValueError, match="is a folder, expected a file with skip_mismatch or by_name"):
        other.load_weights(tmp_path / "best.keras", skip_mismatch=True)
    assert newest(tmp_path / "best.keras").holds_run
