"""Steps that are given and return lists of arrays, as Keras writes them for JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax.layers import BatchNormalization, Dense, Dropout

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 3)).astype(np.float32), RNG.normal(size=(8, 1)).astype(np.float32)


def _between():
    inputs = ef.Input((3,))
    return inputs, Dense(1, name="out")(BatchNormalization()(Dense(4, activation="tanh", name="in")(inputs)))


def _compiled(cls, **options):
    model = cls(*_between())
    model.set_weights([np.full(one.shape, 0.1 + 0.1 * i, "float32") for i, one in enumerate(model.weights)])
    model.compile("adam", "mse", metrics=["mae"], **options)
    return model


class Same(ef.Model):
    def train_step(self, state, data):
        logs, state = super().train_step(state, data)
        return {**logs, "extra": jnp.float32(len(state))}, state

    def test_step(self, state, data):
        return super().test_step(state, data)

    def predict_step(self, state, data):
        outputs, non_trainable = super().predict_step(state, data)
        return 2 * outputs, non_trainable


@pytest.mark.slow
def test_steps_of_the_base_class_take_and_return_lists():
    own, plain = _compiled(Same), _compiled(ef.Model)
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0, "validation_data": (X, Y)}
    found, expected = (model.fit(X, Y, **options).history for model in (own, plain))
    assert found.pop("extra") == [4, 4]
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-5)
    for one, other in zip(own.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_allclose(own.predict(X, verbose=0), 2 * plain.predict(X, verbose=0), rtol=1e-6)


def test_a_step_of_prediction_returns_outputs_and_the_variables_that_are_not_trained():
    class Counts(ef.Model):
        def __init__(self):
            super().__init__()
            self.layer = Dense(1)
            self.calls = ef.Variable(0, trainable=False)
            self.rows = ef.Variable(0, trainable=False)

        def call(self, x):
            return self.layer(x)

        def predict_step(self, state, data):
            trainable, non_trainable = state
            outputs, (calls, rows) = self.stateless_call(trainable, non_trainable, data)
            return outputs, [calls + 1, rows + len(data)]

    model = Counts()
    model(X)
    outputs = model.predict(X, batch_size=4, verbose=0)
    np.testing.assert_allclose(outputs, model(X), rtol=1e-6)
    assert (int(model.calls.value), int(model.rows.value)) == (2, 8)


def _without_metrics(logs, state):
    return logs, state[:3]


def _one_weight_less(logs, state):
    return logs, (state[0][1:], *state[1:])


def _transposed(logs, state):
    return logs, ([state[0][0].T, *state[0][1:]], *state[1:])


def _only_logs(logs, state):
    return logs


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_only_logs, TypeError, r"Wrong.train_step returned dict, expected \(logs, state\)"),
        (_without_metrics, ValueError, r"the state is a tuple of 3, expected 4 lists: trainable, non_train"),
        (_one_weight_less, ValueError, r"the trainable variables in the state have shapes \[\(4,\)"),
        (_transposed, ValueError, r"the trainable variables in the state have shapes \[\(4, 3\)"),
    ],
    ids=["logs", "three_lists", "one_less", "transposed"],
)
def test_what_such_a_step_may_not_return_is_said(change, error, message):
    class Wrong(ef.Model):
        def train_step(self, state, data):
            return change(*super().train_step(state, data))

    with pytest.raises(error, match=message):
        _compiled(Wrong).fit(X, Y, verbose=0)


def test_variables_come_layer_by_layer_with_their_random_streams():
    first = ef.Sequential([ef.Input((3,)), Dropout(0.5, seed=1), BatchNormalization()])
    second = ef.Sequential([ef.Input((3,)), Dropout(0.5, seed=1), Dense(1)])

    class Both(ef.Model):
        def __init__(self):
            super().__init__()
            self.second, self.first = second, first
            self.seeds = ef.random.SeedGenerator(1)
            self.queue = ef.Variable(X, trainable=False)

        def call(self, x):
            return self.second(self.first(x))

    model = Both()
    model(X)
    own = [model.queue, model.seeds.state]
    assert list(map(id, model.variables)) == list(map(id, [*own, *second.variables, *first.variables]))
    of_parts = [*second.non_trainable_variables, *first.non_trainable_variables]
    assert list(map(id, model.non_trainable_variables)) == list(map(id, [*own, *of_parts]))
    assert len(second.non_trainable_variables) >= 1
    outputs, after = jax.jit(lambda *state: model.stateless_call(*state, X, training=True))(
        [one.value for one in model.trainable_variables], [one.value for one in model.non_trainable_variables]
    )
    assert outputs.shape == (8, 1)
    assert len(after) == len(model.non_trainable_variables)


def test_a_stateless_call_returns_the_losses_of_its_own_variables():
    class Adds(ef.Layer):
        def call(self, inputs):
            self.add_loss(jnp.mean(inputs))
            return inputs

    layers = [ef.Input((3,)), Adds(), Dense(2, use_bias=False, kernel_regularizer=ef.regularizers.L2(0.5))]
    model = ef.Sequential(layers)
    model(X + 1)
    outputs, after, losses = model.stateless_call([np.ones((3, 2), "float32")], [], X, return_losses=True)
    np.testing.assert_allclose(outputs, X.sum(1, keepdims=True) * np.ones(2), rtol=1e-5)
    assert after == []
    assert list(map(float, losses)) == pytest.approx([X.mean(), 3.0], rel=1e-5)
