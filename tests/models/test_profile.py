"""The profile of a training step: parts that are known because they sleep, counts that have a closed form."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.callbacks import Callback, EarlyStopping, GradientAccumulation
from easyflax.distribution import DataParallel
from easyflax.errors import NotCompiledError
from easyflax.layers import LSTM, Dense, Input
from easyflax.models import Model, Sequential, StepProfile
from easyflax.models.step_profile import CallbackTime
from easyflax.train.measured_peak import MeasuredPeak
from easyflax.train.step_costs import StepCosts, StepMemory

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
NAP = 0.01
PEAK = MeasuredPeak("float32", 100e9, 20e9)


@pytest.fixture(autouse=True)
def known_peak(monkeypatch):
    monkeypatch.setattr("easyflax.models.profiling.measured_peak", lambda devices, dtype: PEAK)


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.hidden, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.drop, self.out = nnx.Dropout(0.3, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.tanh(self.norm(self.hidden(x)))))


class Own(Model):
    def train_step(self, data):
        x, y = data

        def loss_of(model):
            return jnp.abs(model(x, training=True) - y).mean()

        loss, grads = nnx.value_and_grad(loss_of)(self)
        self.optimizer.update(self, grads)
        return {"loss": loss}


def compiled(model, optimizer="adam", **options):
    options = {"loss": "mse", "metrics": ["mae"], "distribution": DataParallel(jax.devices()[:1]), **options}
    model.compile(optimizer, **options)
    return model


def a_dense(optimizer="adam", **options):
    return compiled(Sequential([Input((3,)), Dense(1)]), optimizer, **options)


def slowly(seconds):
    """A function that returns batches, each after a nap."""

    def batches():
        while True:
            time.sleep(seconds)
            yield X[:4], Y[:4]

    return batches


class Sleepy(Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(NAP)

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(2 * NAP)


def plain(tree):
    def leaf(value):
        is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(value) if is_key else value)

    return jax.tree.map(leaf, tree)


def assert_equal(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


# -- what is found


def test_slow_data_are_seen_as_such():
    profile = a_dense().profile(slowly(NAP), steps=5)
    assert profile.bound == "data"
    assert profile.data_seconds >= 0.9 * NAP
    assert profile.data_seconds > profile.total_seconds / 2
    assert profile.fit_seconds >= 0.8 * NAP
    assert "worker processes" in profile.advice


def test_a_slow_callback_is_seen_as_such():
    profile = a_dense().profile(X, Y, batch_size=4, callbacks=[Callback(), Sleepy()], steps=5)
    assert profile.bound == "callbacks"
    assert profile.callbacks_seconds >= NAP
    assert profile.callbacks["Callback"] == CallbackTime(0.0, 0.0)
    assert profile.callbacks["Sleepy"].epoch >= 2 * NAP
    assert profile.fit_seconds >= NAP
    assert "Sleepy takes longest" in profile.advice


def test_two_callbacks_of_a_class_are_told_apart():
    profile = a_dense().profile(X, Y, callbacks=[Sleepy(), Sleepy()], steps=1)
    assert list(profile.callbacks) == ["Sleepy", "Sleepy 2"]


def test_parts_add_up_to_what_a_step_takes_where_nothing_overlaps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Slow(Model):
        def train_step(self, data):
            now[0] += 2.0
            return {"loss": jnp.float32(0)}

    class Hooks(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            now[0] += 1.0

        def on_train_batch_end(self, batch, logs=None):
            now[0] += 3.0

        def on_epoch_begin(self, epoch, logs=None):
            now[0] += 12.0

    model = compiled(Slow(nnx.Linear(3, 1, rngs=nnx.Rngs(0))), run_eagerly=True, metrics=None)
    profile = model.profile(X, Y, batch_size=4, callbacks=[Hooks()], steps=5)
    assert list(profile.parts.values()) == [0.0, 0.0, 0.0, 2.0, 4.0, 0.0]
    assert profile.callbacks == {"Hooks": CallbackTime(4.0, 12.0)}
    assert profile.total_seconds == profile.fit_seconds == 6.0
    short = model.profile(X, Y, batch_size=8, callbacks=[Hooks()], steps=12)  # of three steps each
    assert list(short.parts.values()) == [0.0, 0.0, 0.0, 2.0, 4.0, 4.0]
    assert short.total_seconds == short.fit_seconds == 10.0


def test_eager_steps_are_said_not_to_be_compiled():
    profile = a_dense("sgd", run_eagerly=True).profile(X, Y, steps=1)
    assert not profile.is_compiled
    assert profile.costs is profile.memory is profile.peak is profile.flops_per_second is None
    assert profile.bound == "eager"
    assert "nothing is compiled" in str(profile)
    assert "run_eagerly" in str(profile)


@pytest.mark.parametrize("devices", [1, 8])
def test_operations_of_a_dense_layer_are_those_of_its_two_products(devices):
    model = Sequential([Input((64,)), Dense(32, use_bias=False)])
    compiled(model, "sgd", metrics=None, distribution=DataParallel(jax.devices()[:devices]))
    x = np.ones((128, 64), "float32")
    profile = model.profile(x, x[:, :32], batch_size=16, steps=2)
    products = 2 * (2 * 16 * 64 * 32)  # forward, and the gradient of the kernel
    assert products <= profile.costs.flops < 1.1 * products
    assert profile.costs.bytes_accessed > 4 * (16 * 64 + 64 * 32)
    assert profile.memory.arguments >= 4 * 64 * 32
    assert (profile.rows, profile.batch_bytes, profile.devices) == (16, 4 * 16 * 96, devices)
    assert not profile.has_loop


def test_a_recurrent_layer_is_said_to_be_counted_once():
    model = compiled(Sequential([Input((5, 3)), LSTM(2), Dense(1)]), metrics=None)
    profile = model.profile(np.ones((4, 5, 3), "float32"), np.ones((4, 1), "float32"), steps=1)
    assert profile.has_loop
    assert "≥" in str(profile)


def test_a_model_is_built_by_it_and_fit_compiles_nothing_anew():
    traces = []

    class Counting(nnx.Linear):
        def __call__(self, x):
            traces.append(x.shape)
            return super().__call__(x)

    model = compiled(Model(Counting(3, 1, rngs=nnx.Rngs(0))))
    model.profile(X, Y, batch_size=12, steps=1)
    number = len(traces)
    model.fit(X, Y, batch_size=12, verbose=0)
    assert len(traces) == number
    unbuilt = compiled(Sequential([Dense(1)]))
    unbuilt.profile(X, Y, steps=1)
    assert unbuilt.built


# -- what is left as it was


def unchanged_cases():
    return {
        "module": lambda: compiled(Model(Net())),
        "own train_step": lambda: compiled(Own(Net()), metrics=None),
        "eager": lambda: compiled(Model(nnx.Linear(3, 1, rngs=nnx.Rngs(0))), "sgd", run_eagerly=True),
        "several steps": lambda: a_dense(steps_per_execution=3),
        "accumulating": lambda: a_dense(gradient_accumulation_steps=2),
        "eight devices": lambda: a_dense(distribution=DataParallel()),
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", unchanged_cases())
def test_the_model_is_as_it_was_to_the_bit(case):
    model = unchanged_cases()[case]()
    model.fit(X, Y, batch_size=8, verbose=0)
    before = plain(model.get_state()), [metric.result() for metric in model.metrics]
    history = model.history
    callbacks = [EarlyStopping(monitor="loss", patience=0, restore_best_weights=True), Sleepy()]
    model.profile(X, Y, batch_size=8, steps=3, callbacks=callbacks)
    assert_equal((plain(model.get_state()), [metric.result() for metric in model.metrics]), before)
    assert model.history is history
    assert not model.stop_training


@pytest.mark.slow
def test_training_after_it_is_what_it_would_have_been():
    models = [compiled(Model(Net())) for _ in range(2)]
    models[0].profile(X, Y, batch_size=8, steps=3)
    assert models[0].step == 0
    logs = [model.fit(X, Y, batch_size=8, verbose=0).history for model in models]
    assert logs[0] == logs[1]
    assert_equal(*(plain(model.get_state()) for model in models))


def test_what_is_found_is_of_the_groups_that_steps_go_in():
    class EachBatch(Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    assert a_dense(steps_per_execution=3).profile(X, Y, batch_size=2, steps=3).steps_per_dispatch == 3
    profile = a_dense().profile(X, Y, batch_size=2, steps=3)
    assert profile.steps_per_dispatch > 1
    assert f"hand over {profile.steps_per_dispatch} steps at a time" in str(profile)
    assert a_dense().profile(X, Y, batch_size=2, steps=3, callbacks=EachBatch()).steps_per_dispatch == 1


def test_what_ends_in_an_error_leaves_the_model_as_it_was():
    class Raises(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.optimizer.learning_rate = 7.0
            raise OSError("disk full")

    model = a_dense()
    model.fit(X, Y, verbose=0)
    before = plain(model.get_state())
    with pytest.raises(OSError, match="disk full"):
        model.profile(X, Y, callbacks=[Raises()], steps=2)
    assert_equal(plain(model.get_state()), before)


def test_weights_that_a_callback_sets_are_put_back():
    class Sets(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([0 * one for one in self.model.get_weights()])

    model = a_dense()
    before = model.get_weights()
    model.profile(X, Y, callbacks=[Sets(), GradientAccumulation(2)], steps=2)
    assert_equal(model.get_weights(), before)


def test_an_iterator_is_read_no_further_than_steps_ask_for():
    taken = []

    def batches():
        for number in range(1000):
            taken.append(number)
            yield X[:4], Y[:4]

    profile = a_dense(steps_per_execution=2).profile(batches(), steps=4)
    assert profile.fit_seconds is not None
    assert len(taken) <= 2 * 4 + 2  # two are read ahead


def test_data_that_end_are_told_apart_from_a_fit():
    profile = a_dense().profile(iter([(X[:4], Y[:4])] * 3), steps=5, callbacks=[Sleepy()])
    assert profile.fit_seconds is None
    assert profile.callbacks_seconds >= NAP
    assert profile.share_of_peak_in_fit is None
    assert "in fit" not in str(profile)


# -- what is refused


def test_it_needs_compile_and_no_running_fit():
    with pytest.raises(NotCompiledError, match="profile: the model is not compiled"):
        Sequential([Input((3,)), Dense(1)]).profile(X, Y)

    class Profiles(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.profile(X, Y)

    with pytest.raises(RuntimeError, match="profile was called within fit of the same model"):
        a_dense().fit(X, Y, verbose=0, callbacks=[Profiles()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, r"profile: steps is 0, expected an integer of at least 1"),
        ({"y": Y[:5]}, r"5"),
        ({"y": None}, r"y is None, expected targets"),
        ({"batch_size": 0}, r"batch_size"),
        ({"x": [], "y": None}, r"x"),
    ],
    ids=["no steps", "other rows", "no targets", "no rows", "nothing"],
)
def test_bad_arguments_are_refused_before_anything_runs(arguments, message):
    with pytest.raises(ValueError, match=message):
        a_dense().profile(**{"x": X, "y": Y, **arguments})


# -- what it says


def a_profile(data=0.0, transfer=0.0, dispatch=0.0, device=0.0, hooks=0.0, epochs=0.0, **changes):
    default = {
        "model": "net",
        "rows": 32,
        "batch_bytes": 8320,
        "devices": 1,
        "device_kind": "cpu",
        "compute_dtype": "float32",
        "is_compiled": True,
        "fit_seconds": 2.0,
        "costs": StepCosts(10e9, 2e9),
        "memory": StepMemory(2**20, 2**10, 2**30),
        "peak": PEAK,
    }
    return StepProfile(
        data_seconds=data,
        transfer_seconds=transfer,
        dispatch_seconds=dispatch,
        device_seconds=device,
        callbacks_seconds=hooks,
        epochs_seconds=epochs,
        **{**default, **changes},
    )


@pytest.mark.parametrize("part", ["data", "transfer", "dispatch", "callbacks", "epochs"])
def test_the_longest_part_bounds_the_step(part):
    seconds = {"hooks" if part == "callbacks" else part: 1.5}
    profile = a_profile(device=1.0, callbacks={"Sleepy": CallbackTime(1.5, 0.0)}, **seconds)
    assert profile.bound == part
    assert profile.advice.startswith(f"Bound by {part}")


@pytest.mark.parametrize(
    ("device", "flops", "read", "bound"),
    [
        (1.0, 80e9, 2e9, "compute"),
        (1.0, 2e9, 16e9, "memory"),
        (1.0, 2e9, 2e9, "operations"),
        (1.0, None, None, "operations"),
    ],
    ids=["compute", "memory", "small", "unknown"],
)
def test_a_busy_device_is_bound_by_what_it_comes_near_to(device, flops, read, bound):
    assert a_profile(device=device, costs=StepCosts(flops, read)).bound == bound


def test_what_caches_hold_does_not_wait_for_memory():
    small = a_profile(device=1.0, costs=StepCosts(2e9, 100e9), memory=StepMemory(2**20, 0, 2**20))
    assert small.bound == "operations"
    assert "500 % of the 18.6 GiB/s measured; much of it in" in str(small)


def test_derived_numbers_follow_from_the_measured_ones():
    profile = a_profile(0.5, 0.25, 0.25, 1.0)
    assert profile.total_seconds == 2.0
    assert (profile.flops_per_second, a_profile(device=0.0).flops_per_second) == (10e9, None)
    assert profile.rows_per_second == 16.0
    assert (profile.share_of_peak, profile.share_of_peak_in_fit) == (0.1, 0.05)
    assert profile.share_of_bandwidth == 0.1
    assert a_profile(device=4.0, fit_seconds=None).rows_per_second == 8.0
    assert profile.memory.total == 2**30 + 2**20 + 2**10


def test_all_numbers_come_as_a_dict_that_can_be_written():
    profile = a_profile(device=1.0, callbacks={"Sleepy": CallbackTime(0.1, 0.2)})
    read = json.loads(json.dumps(profile.as_dict()))
    assert read["callbacks"] == {"Sleepy": {"step": 0.1, "epoch": 0.2}}
    assert read["costs"]["flops"] == 10e9
    assert read["share_of_peak"] == 0.1
    assert read["bound"] == "operations"


def test_the_table_has_a_line_for_each_part_and_a_verdict():
    text = str(a_profile(0.5, 0.25, 0.25, 1.0))
    assert max(map(len, text.splitlines())) <= 100
    found = {line.split()[1]: line for line in text.splitlines() if line.startswith("│")}
    assert list(found) == ["data", "transfer", "dispatch", "device", "callbacks", "epochs", "together", "in"]
    assert all(word in found["device"] for word in ("1.00 s", "50 %", "████████", "compute"))
    assert "2.00 s" in found["in"]
    assert "16 rows a second" in found["in"]
    for words in ("10.0 G", "10 % of the 100 GFLOP/s", "5 %", "1.9 GiB/s", "Bound by the device"):
        assert words in text
    assert repr(a_profile(device=1.0)) == str(a_profile(device=1.0))


def test_notebooks_get_the_table_as_html():
    html = a_profile(0.5, 0.25, 0.25, 1.0)._repr_html_()
    assert html.startswith("<pre")
    assert "dispatch" in html
    assert "\x1b" not in html


@pytest.mark.slow
def test_the_peak_is_that_of_the_machine(monkeypatch):
    monkeypatch.undo()
    model = compiled(Sequential([Input((256,)), Dense(256)]), "sgd", metrics=None)
    x = np.ones((256, 256), "float32")
    profile = model.profile(x, x, batch_size=256, steps=5)
    assert profile.peak.dtype == "float32"
    assert 1e8 < profile.peak.flops_per_second < 1e16
    assert 1e8 < profile.peak.bytes_per_second < 1e15
    assert profile.share_of_peak > 0
