"""Steps of a model's own: train_step, test_step, predict_step, compute_loss and compute_metrics."""

import traceback

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.losses as losses
import easyflax.metrics as metrics
import easyflax.nnx as nnx
import easyflax.optimizers as optimizers
from easyflax.distribution import DataParallel
from easyflax.layers import Dense, Input
from easyflax.models import Model, Sequential
from easyflax.train.callback import Callback

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(19, 3)).astype(np.float32), RNG.normal(size=(19, 2)).astype(np.float32)


def _linear(seed=0):
    return nnx.Linear(3, 2, rngs=nnx.Rngs(seed))


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.hidden = nnx.Linear(3, 4, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.tanh(self.norm(self.hidden(x)))))


class Plain(Model):
    """Does by itself what fit does anyway."""

    traces = 0

    def train_step(self, data):
        type(self).traces += 1
        x, y, *weights = data

        def loss_of(model):
            y_pred = model(x, training=True)
            return self.compute_loss(x, y, y_pred, *weights), y_pred

        (loss, y_pred), grads = nnx.value_and_grad(loss_of, has_aux=True)(self)
        self.optimizer.update(self, grads)
        return {"loss": loss, **self.compute_metrics(x, y, y_pred, *weights)}


def _compiled(model, devices=1, **options):
    options = {"optimizer": "adam", "loss": "mse", **options}
    model.compile(**options, distribution=DataParallel(jax.devices()[:devices]))
    return model


def _fit(model, *, epochs=2, batch_size=8, **options):
    return model.fit(X, Y, batch_size=batch_size, epochs=epochs, verbose=0, **options)


def _same_weights(one, other):
    return all(map(np.array_equal, one.get_weights(), other.get_weights()))


def _close_weights(one, other, rtol=1e-5):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


# -- the same as without


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_a_step_that_does_what_fit_does_gives_its_numbers_to_the_bit(weighted):
    options = {"sample_weight": RNG.uniform(size=19).astype(np.float32)} if weighted else {}
    own, default = (_compiled(cls(Net()), metrics=["mae"]) for cls in (Plain, Model))
    history, expected = _fit(own, **options).history, _fit(default, **options).history
    assert _same_weights(own, default)
    assert history["mae"] == expected["mae"]


@pytest.mark.slow
def test_calling_the_step_of_the_base_class_changes_nothing():
    class Same(Model):
        def train_step(self, data):
            return {**super().train_step(data), "extra": jnp.float32(1)}

        def test_step(self, data):
            return super().test_step(data)

        def predict_step(self, data):
            return super().predict_step(data)

    own, default = (_compiled(cls(Net()), metrics=["mae"]) for cls in (Same, Model))
    history, expected = (_fit(one, validation_data=(X, Y)).history for one in (own, default))
    assert history.pop("extra") == [1.0, 1.0]
    assert history.keys() == expected.keys()
    for name, values in expected.items():
        assert history[name] == pytest.approx(values, rel=1e-5)
    assert _same_weights(own, default)
    assert np.array_equal(own.predict(X, verbose=0), default.predict(X, verbose=0))
    assert own.evaluate(X, Y, verbose=0) == pytest.approx(default.evaluate(X, Y, verbose=0), rel=1e-5)


def test_training_twice_traces_no_more_than_once_a_shape():
    model = _compiled(Plain(_linear()))
    _fit(model)
    traces = Plain.traces
    _fit(model)
    assert Plain.traces == traces


@pytest.mark.slow
def test_eight_devices_give_what_one_gives():
    one, eight = (_compiled(Plain(Net()), devices) for devices in (1, 8))
    for model in (one, eight):
        _fit(model, batch_size=16, epochs=1)
    _close_weights(one, eight)


@pytest.mark.slow
def test_several_steps_of_one_dispatch_are_the_steps_one_by_one():
    many, single = (_compiled(Plain(Net()), steps_per_execution=n) for n in (2, 1))
    for model in (many, single):
        _fit(model)
    assert many.step == single.step == 6
    _close_weights(many, single)


def test_eager_steps_are_run_in_python_each_time(capsys):
    class Prints(Plain):
        def train_step(self, data):
            print("rows", float(jnp.sum(data[0] * 0 + 1)) / 3)
            return super().train_step(data)

    eager, compiled = (_compiled(Prints(_linear()), run_eagerly=True), _compiled(Plain(_linear())))
    _fit(eager, epochs=1), _fit(compiled, epochs=1)
    assert capsys.readouterr().out.split("\n").count("rows 8.0") == 2
    _close_weights(eager, compiled)


def test_frozen_layers_stay_as_they_are():
    model = _compiled(Plain(Sequential([Input((3,)), Dense(4), Dense(2)])))
    model.module.layers[0].trainable = False
    before = model.get_weights()
    _fit(model)
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [False, False, True, True]


# -- loss and metrics


class OwnLoss(Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return jnp.mean(jnp.abs(y - y_pred)) + 0.1 * jnp.mean(y_pred**2)


def test_a_loss_of_ones_own_is_trained_on_evaluated_and_exact_for_ragged_batches():
    model = _compiled(OwnLoss(_linear()), optimizer="sgd", loss=None, metrics=["mae"])
    layer, tx = _linear(), optax.sgd(0.01)
    params, state = nnx.state(layer), tx.init(nnx.state(layer))

    def loss_of(params, x, y):
        out = nnx.merge(nnx.graphdef(layer), params)(x)
        return jnp.mean(jnp.abs(y - out)) + 0.1 * jnp.mean(out**2)

    values = []
    for rows in (slice(0, 8), slice(8, 16), slice(16, 19)):
        value, grads = jax.value_and_grad(loss_of)(params, X[rows], Y[rows])
        updates, state = tx.update(grads, state)
        params = optax.apply_updates(params, updates)
        values.append(float(value))
    history = _fit(model, epochs=1, shuffle=False).history
    assert history["loss"] == pytest.approx([np.average(values, weights=[8, 8, 3])], rel=1e-5)
    found = model.evaluate(X, Y, batch_size=7, verbose=0, return_dict=True)
    prediction = model.predict(X, verbose=0)
    assert found["mae"] == pytest.approx(np.mean(np.abs(Y - prediction)), rel=1e-5)
    parts = [loss_of(params, X[i : i + 7], Y[i : i + 7]) for i in (0, 7, 14)]
    assert found["loss"] == pytest.approx(np.average(parts, weights=[7, 7, 5]), rel=1e-5)


def test_a_loss_of_ones_own_may_leave_targets_of_another_shape_aside():
    class Pair(Model):
        def call(self, inputs):
            return tuple(map(self.layer, inputs))

        def __init__(self):
            super().__init__()
            self.layer = Dense(2)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return jnp.mean((y_pred[0] - y_pred[1]) ** 2)

    model = _compiled(Pair(), loss=None)
    losses_of = model.fit((X, X + 1), np.zeros(19), epochs=2, verbose=0).history["loss"]
    assert losses_of[1] < losses_of[0]


@pytest.mark.parametrize(
    ("value", "message"), [(None, "returned None"), (jnp.ones(3), r"returned shape \(3,\)")], ids=str
)
def test_a_loss_that_is_no_scalar_is_refused(value, message):
    class Wrong(Model):
        def compute_loss(self, x, y, y_pred, sample_weight):
            return value

    with pytest.raises(ValueError, match=rf"Wrong.compute_loss {message}, expected a scalar"):
        _fit(_compiled(Wrong(_linear())))


def test_metrics_of_ones_own_are_computed_and_logged():
    class Extra(Model):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return {**super().compute_metrics(x, y, y_pred, sample_weight), "largest": jnp.max(y)}

    model = _compiled(Extra(_linear()), metrics=["mae"])
    history = _fit(model, batch_size=19, epochs=1, validation_data=(X[:8], Y[:8])).history
    assert list(history) == ["largest", "loss", "mae", "val_largest", "val_loss", "val_mae"]
    assert history["largest"] == [Y.max()]
    assert history["val_largest"] == [Y[:8].max()]
    plain = _compiled(Model(_linear()), metrics=["mae"])
    assert history["mae"] == pytest.approx(_fit(plain, batch_size=19, epochs=1).history["mae"])


class Tracked(Model):
    """Tracks with metrics that are attributes."""

    def __init__(self, module):
        super().__init__(module)
        self.loss_tracker = metrics.Mean(name="loss")
        self.mae = metrics.MeanAbsoluteError(name="mae")

    def train_step(self, data):
        x, y = data

        def loss_of(model):
            y_pred = model(x, training=True)
            return jnp.mean((y - y_pred) ** 2), y_pred

        (loss, y_pred), grads = nnx.value_and_grad(loss_of, has_aux=True)(self)
        self.optimizer.update(self, grads)
        return self._track(loss, y, y_pred)

    def test_step(self, data):
        x, y = data
        y_pred = self(x, training=False)
        return self._track(jnp.mean((y - y_pred) ** 2), y, y_pred)

    def _track(self, loss, y, y_pred):
        self.loss_tracker.update_state(loss, sample_weight=len(y))
        self.mae.update_state(y, y_pred)
        return {"loss": self.loss_tracker.result(), "mae": self.mae.result()}


class Listed(Tracked):
    @property
    def metrics(self):
        return [self.loss_tracker, self.mae]


@pytest.mark.parametrize("cls", [Tracked, Listed])
def test_metrics_that_are_attributes_begin_anew_each_epoch_and_for_validation(cls):
    own, default = _compiled(cls(_linear()), loss=None), _compiled(Model(_linear()), metrics=["mae"])
    history, expected = (
        _fit(model, epochs=3, validation_data=(X[:11], Y[:11])).history for model in (own, default)
    )
    assert history.keys() == expected.keys()
    for name, values in expected.items():
        assert history[name] == pytest.approx(values, rel=1e-5)
    found = own.evaluate(X, Y, verbose=0, return_dict=True)
    assert found == pytest.approx(default.evaluate(X, Y, verbose=0, return_dict=True), rel=1e-5)
    assert float(own.mae.result()) == pytest.approx(found["mae"])
    own.reset_metrics()
    assert float(own.mae.result()) == 0


def test_metrics_that_are_built_by_their_first_update_keep_what_they_count():
    class WithF(Model):
        def __init__(self):
            super().__init__()
            self.layer, self.score = Dense(2), metrics.F1Score(average="macro", threshold=0.5, name="f1")

        def call(self, x):
            return self.layer(x)

        def train_step(self, data):
            x, y = data
            self.optimizer.update(self, nnx.grad(lambda model: jnp.mean((model(x) - y) ** 2))(self))
            self.score.update_state((y > 0).astype(jnp.float32), jax.nn.sigmoid(1e3 * y))
            return {"f1": self.score.result()}

    model = _compiled(WithF(), optimizer="sgd", loss=None)
    history = _fit(model).history
    assert history["f1"] == [1.0, 1.0]
    assert model.score.variables


# -- optimizers


def _pair_by_hand(steps):
    one, two = _linear(0), _linear(1)
    state = {}
    for _ in range(steps):
        for name, layer, tx in (("one", one, optax.sgd(0.1)), ("two", two, optax.adam(0.01))):
            params = nnx.state(layer)
            grads = nnx.grad(lambda layer: jnp.mean((layer(X) - Y) ** 2))(layer)
            state.setdefault(name, tx.init(params))
            updates, state[name] = tx.update(grads, state[name], params)
            nnx.update(layer, optax.apply_updates(params, updates))
    return one, two


class Pair(Model):
    """Two models, with an optimizer each."""

    def __init__(self, kind):
        super().__init__()
        self.one, self.two = _linear(0), _linear(1)
        self.kind = kind
        if kind == "nnx":
            self.first = nnx.Optimizer(self.one, optax.sgd(0.1), wrt=nnx.Param)
            self.second = nnx.Optimizer(self.two, optax.adam(0.01), wrt=nnx.Param)

    def compile(self, **options):
        super().compile(**options)
        if self.kind != "nnx":
            self.first, self.second = optimizers.SGD(0.1), optimizers.Adam(0.01, epsilon=1e-8)

    def train_step(self, data):
        x, y = data
        for layer, optimizer in ((self.one, self.first), (self.two, self.second)):
            loss, grads = nnx.value_and_grad(lambda layer: jnp.mean((layer(x) - y) ** 2))(layer)
            if self.kind in ("nnx", "update"):
                optimizer.update(layer, grads)
            else:
                variables = [layer.kernel, layer.bias]
                values = [grads["kernel"].value, grads["bias"].value]
                if self.kind == "apply":
                    optimizer.apply(values, variables)
                else:
                    optimizer.apply_gradients(zip(values, variables, strict=True))
        return {"loss": loss}


@pytest.mark.parametrize("kind", ["nnx", "update", "apply", "apply_gradients"])
def test_several_optimizers_that_are_attributes_are_those_of_a_loop_by_hand(kind):
    model = Pair(kind)
    model.compile()
    model.fit(X, Y, batch_size=19, epochs=3, shuffle=False, verbose=0)
    for layer, expected in zip((model.one, model.two), _pair_by_hand(3), strict=True):
        np.testing.assert_allclose(layer.kernel.value, expected.kernel.value, rtol=1e-4)
        np.testing.assert_allclose(layer.bias.value, expected.bias.value, rtol=1e-4, atol=1e-6)
    if kind == "nnx":
        assert int(model.second.step.value) == 3
    else:
        assert int(model.second.iterations) == 3
        assert float(model.first.learning_rate) == pytest.approx(0.1)


def test_the_learning_rate_of_an_optimizer_that_is_an_attribute_can_be_changed_in_a_callback():
    class Freeze(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.first.learning_rate = 0.0
            self.kernel = np.asarray(self.model.one.kernel.value)

    model, callback = Pair("update"), Freeze()
    model.compile()
    _fit(model, callbacks=[callback], epochs=1)
    before = callback.kernel
    _fit(model)
    assert np.array_equal(before, model.one.kernel.value)
    assert not np.array_equal(_linear().kernel.value, before)


@pytest.mark.parametrize("kind", ["apply", "apply_gradients"])
def test_the_optimizer_of_compile_takes_gradients_in_the_order_of_trainable_variables(kind):
    class Lists(Model):
        def train_step(self, data):
            x, y = data
            variables = self.trainable_variables
            rest = self.non_trainable_variables

            def loss_of(values):
                y_pred, _ = self.stateless_call(values, rest, x, training=True)
                return jnp.mean((y_pred - y) ** 2)

            loss, grads = jax.value_and_grad(loss_of)([one.value for one in variables])
            if kind == "apply":
                self.optimizer.apply(grads, variables)
            else:
                self.optimizer.apply_gradients(zip(grads, variables, strict=True))
            return {"loss": loss}

    layers = [Input((3,)), Dense(4, activation="tanh", name="b"), Dense(2, name="a")]
    own = _compiled(Lists(Sequential(layers)))
    default = _compiled(Sequential([Input((3,)), Dense(4, activation="tanh"), Dense(2)]))
    default.set_weights(own.get_weights())
    for model in (own, default):
        _fit(model)
    _close_weights(own, default)


# -- other things that people do in steps


def test_a_gradient_penalty_differentiates_twice():
    class Penalized(Model):
        def train_step(self, data):
            x, y = data

            def loss_of(model):
                slope = jax.grad(lambda x: jnp.sum(model(x)))(x)
                return jnp.mean((model(x) - y) ** 2) + jnp.mean((jnp.linalg.norm(slope, axis=1) - 1) ** 2)

            loss, grads = nnx.value_and_grad(loss_of)(self)
            self.optimizer.update(self, grads)
            return {"loss": loss}

    model, layer = _compiled(Penalized(_linear()), optimizer=optax.sgd(0.1), loss=None), _linear()

    def by_hand(kernel):
        norm = jnp.linalg.norm(jnp.sum(kernel, axis=1))
        return jnp.mean((X @ kernel - Y) ** 2) + (norm - 1) ** 2

    expected = layer.kernel.value - 0.1 * jax.grad(by_hand)(layer.kernel.value)
    _fit(model, epochs=1, batch_size=19, shuffle=False)
    np.testing.assert_allclose(model.module.kernel.value, expected, rtol=1e-4, atol=1e-6)


def test_a_frozen_teacher_stays_and_the_student_follows_it():
    class Distiller(Model):
        def __init__(self):
            super().__init__()
            self.student, self.teacher = Sequential([Dense(2)]), Sequential([Dense(2)])

        def call(self, x):
            return self.student(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return losses.mean_squared_error(self.teacher(x), y_pred).mean()

    model = _compiled(Distiller(), optimizer=optax.sgd(0.3), loss=None)
    model.teacher.build((None, 3))
    model.teacher.trainable = False
    before = model.teacher.get_weights()
    model.fit(X, epochs=60, batch_size=19, verbose=0)
    assert all(map(np.array_equal, before, model.teacher.get_weights()))
    for learned, taught in zip(model.student.get_weights(), before, strict=True):
        np.testing.assert_allclose(learned, taught, atol=1e-3)


def test_a_prediction_of_ones_own_is_returned_for_each_row():
    class Classes(Model):
        def predict_step(self, data):
            x = data[0] if isinstance(data, tuple) else data
            return {"class": jnp.argmax(self(x, training=False), axis=-1), "x": x}

    model = _compiled(Classes(_linear()))
    found = model.predict(X, batch_size=8, verbose=0)
    assert np.array_equal(found["x"], X)
    assert np.array_equal(found["class"], np.argmax(np.asarray(_linear()(X)), axis=-1))


# -- callbacks and state


def test_callbacks_read_and_change_weights_metrics_and_the_learning_rate_meanwhile():
    seen = []

    class Look(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(
                (float(self.model.mae.result()), logs["mae"], float(np.sum(self.model.get_weights()[1])))
            )
            if batch == 1:
                self.model.module.bias.value = jnp.full(2, 5.0)
                self.model.optimizer.learning_rate = 0.0

    model = _compiled(Listed(_linear()), loss=None)
    _fit(model, callbacks=[Look()], epochs=1)
    assert [one for one, _, _ in seen] == pytest.approx([logged for _, logged, _ in seen])
    assert model.module.bias.value.tolist() == [5.0, 5.0]


def test_a_callback_ends_training_within_an_epoch():
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    model = _compiled(Plain(_linear()))
    _fit(model, callbacks=[Stop()], epochs=5)
    assert model.step == 2


@pytest.mark.parametrize("kind", ["nnx", "update"])
def test_training_goes_on_exactly_from_a_saved_state_with_optimizers_and_metrics_of_ones_own(kind):
    class Counted(Pair):
        def __init__(self, kind):
            super().__init__(kind)
            self.count = metrics.Sum(name="count")

        def train_step(self, data):
            self.count.update_state(1.0)
            return {**super().train_step(data), "count": self.count.result()}

    def made():
        model = Counted(kind)
        model.compile()
        return model

    whole, first, resumed = made(), made(), made()
    _fit(whole, epochs=2)
    _fit(first, epochs=1)
    _fit(resumed, epochs=1)
    resumed.set_state(first.get_state())
    history = _fit(resumed, epochs=2, initial_epoch=1)
    assert _same_weights(whole, resumed)
    assert resumed.step == whole.step == 6
    assert history.history["count"] == [3.0]


def test_get_state_holds_arrays_that_training_does_not_delete():
    model = _compiled(Listed(_linear()), loss=None)
    _fit(model)
    state = model.get_state()
    copied = jax.tree.map(np.asarray, state)
    _fit(model)
    assert jax.tree.all(jax.tree.map(np.array_equal, copied, state))
    assert set(model.get_state(weights_only=True)["other"]) == set()


# -- what goes wrong


class Failing(Plain):
    def train_step(self, data):
        if self.optimizer is not None:
            raise KeyError("the user's own")  # this very line
        return {}


def test_an_error_in_a_step_shows_the_users_line_and_leaves_the_model_usable():
    model = _compiled(Failing(_linear()))
    with pytest.raises(KeyError, match="the user's own") as caught:
        _fit(model)
    assert "# this very line" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert np.array_equal(model.predict(X, verbose=0), _linear()(X))
    model.__class__ = Plain
    model.compile("sgd", "mse")
    assert np.isfinite(_fit(model).history["loss"]).all()


def test_an_error_in_an_eager_step_leaves_the_last_weights():
    class Third(Plain):
        seen = 0

        def train_step(self, data):
            type(self).seen += 1
            if type(self).seen == 3:
                raise RuntimeError("third batch")
            return super().train_step(data)

    model, other = _compiled(Third(_linear()), run_eagerly=True), _compiled(Plain(_linear()))
    with pytest.raises(RuntimeError, match="third batch"):
        _fit(model, shuffle=False)
    other.fit(X[:16], Y[:16], batch_size=8, shuffle=False, verbose=0)
    _close_weights(model, other)
    assert np.isfinite(_fit(model).history["loss"]).all()


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "train_step returned NoneType, expected a dict"),
        (1.0, TypeError, "train_step returned float, expected a dict"),
        ({"loss": jnp.ones(3)}, ValueError, r"train_step returned 'loss' of shape \(3,\), expected a scalar"),
        ({"loss": "high"}, TypeError, "train_step returned 'loss' as str, expected a scalar"),
        ({"loss": None}, TypeError, "train_step returned 'loss' as NoneType, expected a scalar"),
        ({"loss": metrics.Mean()}, TypeError, r"train_step returned 'loss' as a metric.*loss\.result\(\)"),
    ],
    ids=["None", "number", "vector", "string", "no value", "metric"],
)
def test_what_a_step_may_not_return_is_said(value, error, message):
    class Wrong(Model):
        def train_step(self, data):
            return value

    with pytest.raises(error, match=rf"Wrong\.{message}"):
        _fit(_compiled(Wrong(_linear())))


def test_a_step_that_changes_the_structure_is_refused():
    class Grows(Plain):
        def train_step(self, data):
            logs = super().train_step(data)
            self.more = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
            return logs

    with pytest.raises(ValueError, match=r"made the variable 'more\.(bias|kernel)'.*Make it in __init__"):
        _fit(_compiled(Grows(_linear())))


def test_steps_cannot_be_called_by_themselves():
    model = _compiled(Model(_linear()))
    with pytest.raises(RuntimeError, match=r"train_step was called by itself.*Call train_on_batch instead"):
        model.train_step((X, Y))
