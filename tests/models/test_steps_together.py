"""Steps that go to the device together, against steps that go one by one."""

import jax
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers
from easyflax.callbacks import Callback, ModelCheckpoint
from easyflax.train.session import Session

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 150)


def make_model(optimizer="adam", **options):
    ef.utils.set_random_seed(1)
    hidden = [layers.Dense(16, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.2)]
    model = ef.Sequential([ef.Input((6,)), *hidden, layers.Dense(3)])
    device = ef.distribution.DataParallel(jax.devices()[:1])
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], distribution=device, **options)
    return model


def fit(model, *callbacks, epochs=2, **options):
    options = {"batch_size": 8, "verbose": 0, **options}
    history = model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options)
    return [np.asarray(weight) for weight in model.get_weights()], history.history


def assert_same_bits(one, other):
    assert one[1] == other[1]
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)


class Ignores(Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


class Logs(Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(("begin", batch, self.model.step))

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(("end", batch, self.model.step, int(self.model.optimizer.iterations), dict(logs)))


class Weights(Callback):
    """Looks at the weights after some steps."""

    def __init__(self, every=1):
        super().__init__()
        self.every, self.seen = every, []

    def on_train_batch_end(self, batch, logs=None):
        if batch % self.every == self.every - 1:
            self.seen.append([np.asarray(weight) for weight in self.model.get_weights()])


class EveryFifth(Weights):
    def __init__(self):
        super().__init__(5)

    def next_batch_needed(self, batch):
        return batch + 4 - batch % 5


class Halves(Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate) * 0.9


class Sets(Callback):
    """Sets weights that it has not read."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 4:
            self.model.layers[0].kernel.value = np.full((6, 16), 0.5, np.float32)


class StopsAt(Callback):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            self.model.stop_training = True


class Raises(Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 6:
            raise RuntimeError("in the middle")


@pytest.fixture(scope="module")
def plain():
    return fit(make_model())


def test_steps_go_together_where_no_hook_needs_each(monkeypatch):
    model, lengths = make_model(), []
    fit(model, epochs=1)
    train = Session.train
    monkeypatch.setattr(
        Session,
        "train",
        lambda self, parts: (lengths.append(sum(map(len, parts))), train(self, parts))[1],
    )
    fit(model, epochs=1)
    assert sum(lengths) == 19
    assert max(lengths) > 8


@pytest.mark.parametrize("callback", [Ignores, Logs, Weights, EveryFifth], ids=lambda one: one.__name__)
def test_callbacks_that_only_look_change_no_bit(plain, callback):
    assert_same_bits(plain, fit(make_model(), callback()))


def test_the_logs_and_counts_of_each_step_are_those_of_single_steps(plain):
    together, single = Logs(), Logs()
    fit(make_model(), together)
    fit(make_model(steps_per_execution=1), single)
    assert len(together.seen) == 2 * 2 * 19
    for one, other in zip(together.seen, single.seen, strict=True):
        assert one[:-1] == other[:-1]
        if one[0] == "end":
            assert one[-1] == pytest.approx(other[-1], rel=1e-5)
    assert together.seen[-1][-1]["loss"] == plain[1]["loss"][-1]


@pytest.mark.parametrize(
    "callback", [Weights, EveryFifth, lambda: Weights(7)], ids=["each", "asked", "seventh"]
)
def test_a_hook_sees_the_weights_after_its_step(callback):
    together, single = callback(), Weights(callback().every)
    fit(make_model(), together, epochs=1)
    fit(make_model(steps_per_execution=1), single, epochs=1)
    assert len(together.seen) == len(single.seen) > 1
    for one, other in zip(together.seen, single.seen, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_rate_that_a_hook_sets_holds_from_the_next_step_on():
    together, single = (fit(make_model("sgd", steps_per_execution=n), Halves()) for n in ("auto", 1))
    for a, b in zip(together[0], single[0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert not np.allclose(together[0][0], fit(make_model("sgd"))[0][0], atol=1e-3)


def test_weights_that_a_hook_sets_hold_from_the_next_step_on():
    together, single = (fit(make_model(steps_per_execution=n), Sets(), epochs=1) for n in ("auto", 1))
    for a, b in zip(together[0], single[0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert abs(together[0][0] - 0.5).max() < 0.1


@pytest.mark.parametrize("batch", [0, 6, 18])
def test_a_hook_that_stops_leaves_the_weights_of_its_step(batch):
    together, single = make_model(), make_model(steps_per_execution=1)
    one, other = (fit(model, StopsAt(batch))[0] for model in (together, single))
    assert together.step == single.step == batch + 1
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_hook_that_raises_leaves_the_weights_of_its_step():
    together, stopped = make_model(), make_model()
    with pytest.raises(RuntimeError, match="in the middle"):
        fit(together, Raises())
    fit(stopped, StopsAt(6))
    assert together.step == stopped.step == 7
    for a, b in zip(together.get_weights(), stopped.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("watching", [(), (Ignores,), (Weights,)], ids=["alone", "ignored", "looked-at"])
def test_a_run_goes_on_from_where_a_group_was_cut(tmp_path, plain, watching):
    with pytest.raises(RuntimeError, match="in the middle"):
        fit(make_model(), *(one() for one in watching), ModelCheckpoint(tmp_path, save_freq=5), Raises())
    resumed = fit(make_model(), *(one() for one in watching), resume_from=tmp_path)
    assert_same_bits(plain, resumed)


@pytest.mark.parametrize("accumulated", [{}, {"gradient_accumulation_steps": 3}], ids=["each", "three"])
def test_updates_are_counted_step_by_step(accumulated):
    together, single = Logs(), Logs()
    fit(make_model(**accumulated), together, epochs=1)
    fit(make_model(steps_per_execution=1, **accumulated), single, epochs=1)
    assert [one[:4] for one in together.seen if one[0] == "end"] == [
        one[:4] for one in single.seen if one[0] == "end"
    ]


def test_evaluation_and_prediction_in_groups_equal_those_batch_by_batch():
    grouped, single = make_model(), make_model(steps_per_execution=1)
    for model in (grouped, single):
        fit(model, epochs=1, shuffle=False)
    single.set_weights(grouped.get_weights())
    for rows in (150, 149, 16, 5):
        one, other = (model.evaluate(X[:rows], Y[:rows], 8, verbose=0) for model in (grouped, single))
        np.testing.assert_allclose(one, other, rtol=1e-6)
        one, other = (model.predict(X[:rows], 8, verbose=0) for model in (grouped, single))
        assert one.shape == (rows, 3)
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_stream_trains_to_the_bit_as_arrays_do(plain):
    def batches():
        for begin in range(0, 150, 8):
            yield X[begin : begin + 8], Y[begin : begin + 8]

    arrays = fit(make_model(), shuffle=False)
    model = make_model()
    history = model.fit(batches, epochs=2, verbose=0).history
    assert_same_bits(arrays, ([np.asarray(weight) for weight in model.get_weights()], history))
