"""What callbacks make of a fit before it begins: data, additions to the compiled step, and bad ones."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax
from easyflax import callbacks, layers, nnx, optimizers
from easyflax.callbacks import Callback, Plan, StepAddition
from easyflax.data import as_source
from easyflax.optimizers.learning_rate import set_learning_rate

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = X.sum(1, keepdims=True)


@dataclass(frozen=True)
class SumOfSquares(StepAddition):
    """Adds up the squared gradients of all updates, and sets the rate to zero from the third one on."""

    needs_gradients = True

    def init(self, params):
        return {"updates": jnp.zeros((), jnp.int32), "squares": jnp.zeros(())}

    def before_update(self, state, opt_state):
        return set_learning_rate(opt_state, jnp.where(state["updates"] < 2, 0.1, 0.0))

    def after_update(self, state, update):
        squares = sum(jnp.sum(grad**2) for grad in update.grads.values())
        return {"updates": state["updates"] + 1, "squares": state["squares"] + squares}


class Look(Callback):
    def configure(self, plan):
        return plan.adding(SumOfSquares("squares"))

    def on_epoch_end(self, epoch, logs=None):
        self.state = jax.device_get(self.model.addition_state("squares"))
        logs["squares"] = float(self.state["squares"])


def _model(cls=easyflax.Model, optimizer=None, **options):
    easyflax.utils.set_random_seed(0)
    model = cls(easyflax.Sequential([easyflax.Input((3,)), layers.Dense(1)]))
    model.compile(optimizer or optimizers.SGD(0.1), "mse", **options)
    return model


def _squares_by_hand(model):
    w, b = map(jnp.asarray, model.get_weights())
    total = 0.0
    for rate, start in zip([0.1, 0.1, 0.0], range(0, 12, 4)):
        x, y = X[start : start + 4], Y[start : start + 4]
        dw, db = jax.grad(lambda w, b: jnp.mean((x @ w + b - y) ** 2), (0, 1))(w, b)
        total += float((dw**2).sum() + (db**2).sum())
        w, b = w - rate * dw, b - rate * db
    return total, [w, b]


class OwnLoss(easyflax.Model):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return jnp.mean((y_pred - y) ** 2)


class OwnStep(easyflax.Model):
    def train_step(self, data):
        return super().train_step(data)


@pytest.mark.parametrize("cls", [easyflax.Model, OwnLoss, OwnStep])
@pytest.mark.parametrize("steps", [1, 3])
def test_an_addition_runs_within_each_update(cls, steps):
    model, look = _model(cls, steps_per_execution=steps), Look()
    squares, weights = _squares_by_hand(model)
    history = model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, callbacks=[look])
    np.testing.assert_allclose(history.history["squares"], [squares], rtol=1e-5)
    for got, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert look.state["updates"] == 3


def test_an_addition_sees_one_update_of_several_batches_and_unscaled_gradients():
    plain, scaled = Look(), Look()
    several = [plain, callbacks.GradientAccumulation(3)]
    _model().fit(X, Y, batch_size=4, shuffle=False, verbose=0, callbacks=several)
    scaling = optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=64.0)
    model = _model(optimizer=scaling, precision="mixed_float16")
    model.fit(X, Y, batch_size=12, shuffle=False, verbose=0, callbacks=[scaled])
    assert plain.state["updates"] == scaled.state["updates"] == 1
    np.testing.assert_allclose(plain.state["squares"], scaled.state["squares"], rtol=1e-2)


def test_equal_additions_share_one_compiled_step_and_evaluation_is_compiled_once():
    traces = []

    class Net(nnx.Module):
        def __init__(self):
            self.linear = nnx.Linear(3, 1, rngs=nnx.Rngs(0))

        def __call__(self, x):
            traces.append(x.shape)
            return self.linear(x)

    model = easyflax.Model(Net())
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[Look()], validation_data=(X, Y))
    before = len(traces)
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[Look()], validation_data=(X, Y))
    model.evaluate(X, Y, batch_size=4, verbose=0)
    assert len(traces) == before


def test_configure_may_replace_the_data_and_all_callbacks_see_the_final_plan():
    class Twice(Callback):
        def configure(self, plan):
            self.before = plan.known_steps
            return replace(plan, source=as_source(X, Y, batch_size=2))

    first, second = Look(), Twice()
    model = _model()
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[first, second])
    assert (second.before, model.step, second.params["steps"]) == (3, 6, 6)
    assert first.plan is second.plan
    assert [one.name for one in first.plan.additions] == ["squares"]


def test_bad_plans_and_additions_are_refused():
    class Forgetful(Callback):
        def configure(self, plan):
            plan.adding(SumOfSquares("squares"))

    with pytest.raises(TypeError, match=r"Forgetful.configure returned None, expected the plan"):
        _model().fit(X, Y, verbose=0, callbacks=[Forgetful()])
    with pytest.raises(ValueError, match="Two callbacks add 'squares' to the training step"):
        _model().fit(X, Y, verbose=0, callbacks=[Look(), Look()])
    with pytest.raises(TypeError, match="expected a StepAddition"):
        Plan(as_source(X), 1).adding(lambda state: state)
    model = _model()
    with pytest.raises(RuntimeError, match="while no fit of this model runs"):
        model.addition_state("squares")

    class Misspelled(Look):
        def on_epoch_end(self, epoch, logs=None):
            self.model.addition_state("sqares")

    with pytest.raises(KeyError, match="squares"):
        model.fit(X, Y, verbose=0, callbacks=[Misspelled()])


def test_updates_are_counted_where_their_number_is_known():
    plan = Plan(as_source(X, batch_size=5), 3, accumulation={1: 2})
    assert [plan.updates_before(epoch) for epoch in range(4)] == [0, 3, 5, 7]
    unknown = Plan(as_source(lambda: iter([(X, Y)])), 3)
    assert (unknown.updates_before(0), unknown.updates_before(1)) == (0, None)


def test_frozen_layers_are_not_among_what_additions_see():
    class Names(StepAddition):
        def init(self, params):
            return {name: jnp.zeros(()) for name in params}

    class Add(Callback):
        def configure(self, plan):
            return plan.adding(Names("names"))

        def on_train_begin(self, logs=None):
            self.names = set(self.model.addition_state("names"))

    model = easyflax.Sequential([easyflax.Input((3,)), layers.Dense(2), layers.Dense(1)])
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    add = Add()
    model.fit(X, Y, verbose=0, callbacks=[add])
    assert len(add.names) == 2
