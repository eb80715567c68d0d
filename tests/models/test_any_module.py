"""Models of any kind of module: given ones, and classes with layers of their own."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.layers import Dense, Input, Layer
from easyflax.models import Model, Sequential

X = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
Y = X.sum(axis=1, keepdims=True)


class KerasStyle(Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.hidden = Dense(units, activation="tanh")
        self.blocks = [Dense(units) for _ in range(2)]
        self.head = Dense(1)

    def call(self, inputs, training=False):
        x = self.hidden(inputs)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x) + (100.0 if training else 0.0)


class NnxStyle(Model):
    def __init__(self, rngs):
        super().__init__()
        self.linear = nnx.Linear(3, 4, rngs=rngs)
        self.module = nnx.Linear(4, 1, rngs=rngs)  # a name of its own

    def __call__(self, x):
        return self.module(nnx.tanh(self.linear(x)))


class Lazy(nnx.Module):
    """A plain module that holds layers without weights, one of them made by another's build."""

    def __init__(self):
        self.first = Composite()
        self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.norm(self.first(x))


class Composite(Layer):
    def build(self, input_shape):
        self.inner = Sequential([Dense(2), Dense(4)])

    def call(self, inputs):
        return self.inner(inputs)


@pytest.mark.parametrize(
    "make",
    [
        KerasStyle,
        lambda: NnxStyle(nnx.Rngs(0)),
        lambda: Model(Lazy()),
        lambda: Sequential([Lazy(), KerasStyle()]),
    ],
    ids=["call", "__call__", "plain", "nested"],
)
def test_any_kind_of_model_is_trained_in_place(make):
    model = make()
    model.compile("adam", "mse")
    model.optimizer.learning_rate = 0.01
    history = model.fit(
        X, np.broadcast_to(Y, (32, 4)) if isinstance(model.layers[0], Composite) else Y, epochs=3, verbose=0
    )
    if type(model) is not KerasStyle and not isinstance(model, Sequential):
        assert history.history["loss"][-1] < history.history["loss"][0]
    assert np.allclose(
        model.predict(X, verbose=0),
        model(X, training=False) if type(model) is not NnxStyle else model(X),
        atol=1e-5,
    )
    assert model.count_params() == sum(weight.size for weight in model.get_weights()) > 0


def test_training_is_passed_to_call_by_fit_and_not_by_predict():
    model = KerasStyle()
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.0
    history = model.fit(X, Y, verbose=0, batch_size=32).history
    assert history["loss"][0] > 5000
    assert model.evaluate(X, Y, verbose=0) < 1000


def test_layers_in_lists_are_found_and_weights_come_as_they_are_listed():
    model = KerasStyle()
    model.build((None, 3))
    assert [layer.name for layer in model.layers] == ["dense", "dense_1", "dense_2", "dense_3"]
    assert model.layers[0] is model.hidden
    assert model.layers[1] is model.blocks[0]
    shapes = [weight.shape for weight in model.get_weights()]
    assert shapes == [(3, 4), (4,), (4, 4), (4,), (4, 4), (4,), (4, 1), (1,)]


def test_a_class_of_its_own_trains_all_of_itself():
    model = NnxStyle(nnx.Rngs(0))
    before = [weight.copy() for weight in model.get_weights()]
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    assert len(before) == 4
    assert not any(map(np.array_equal, before, model.get_weights()))
    assert isinstance(model.module, nnx.Linear)


def test_a_class_may_be_stated_by_symbolic_values():
    class Named(Model):
        def describe(self):
            return f"{self.name} of {len(self.layers)}"

    x = Input((3,))
    model = Named(x, Dense(1)(x), name="small")
    assert model.describe() == "small of 2"
    assert model(X).shape == (32, 1)


def test_models_are_modules_for_the_transforms_of_nnx():
    model = Sequential([Input((3,)), Dense(1)])
    grads = nnx.grad(lambda model: jnp.mean((model(X) - Y) ** 2))(model)
    assert [leaf.shape for _, leaf in nnx.to_flat_state(grads)] == [(1,), (3, 1)]
    assert np.allclose(nnx.jit(lambda model, x: model(x))(model, X), model(X), atol=1e-6)
    graphdef, state = nnx.split(model)
    assert np.array_equal(nnx.merge(graphdef, state)(X), model(X))
    optimizer = nnx.Optimizer(model, __import__("optax").sgd(0.1), wrt=nnx.Param)
    before = model.get_weights()
    optimizer.update(model, grads)
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_what_training_keeps_is_no_part_of_the_structure():
    model = Sequential([Input((3,)), Dense(1)])
    before = nnx.graphdef(model)
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    model.stop_training = True
    assert nnx.graphdef(model) == before
    assert nnx.clone(model).history is None


def test_a_frozen_model_is_not_trained():
    base = Sequential([Input((3,)), Dense(4)], name="base")
    model = Sequential([base, Dense(1)])
    base.trainable = False
    assert (base.layers[0].trainable, model.trainable) == (False, True)
    assert [len(model.weights), len(model.trainable_weights)] == [4, 2]
    before = model.get_weights()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    assert [np.array_equal(*pair) for pair in zip(before, model.get_weights())] == [True, True, False, False]
    base.trainable = True
    model.fit(X, Y, verbose=0)
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_a_wrapped_plain_module_can_be_frozen_as_a_whole():
    module = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    model = Model(module)
    model.trainable = False
    assert not model.trainable
    assert model.trainable_weights == []
    model.trainable = True
    assert len(model.trainable_weights) == 2


def test_build_of_a_model_may_call_that_of_its_class():
    class Building(Model):
        def __init__(self):
            super().__init__()
            self.dense = Dense(2)

        def build(self, input_shape):
            self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")
            super().build(input_shape)

        def call(self, inputs):
            return self.dense(inputs * self.scale)

    model = Building()
    assert model(X).shape == (32, 2)
    assert sorted(weight.shape for weight in model.get_weights()) == [(2,), (3,), (3, 2)]


def test_training_given_to_a_call_of_a_model_in_a_model_stays():
    inner = Sequential([Input((40,)), nnx.Dropout(0.5, rngs=nnx.Rngs(0))])
    x = Input((40,))
    model = Model(x, inner(x, training=False) + 0)
    data = np.ones((1, 40), np.float32)
    assert np.array_equal(model(data, training=True), data)
    model.compile("sgd", "mse")
    assert model.evaluate(data, data, verbose=0) == 0


def test_the_layers_of_a_class_are_in_the_order_of_its_attributes_before_and_after_building():
    class Net(Model):
        def __init__(self):
            super().__init__()
            self.second = Dense(3)
            self.first = Dense(2)

        def call(self, x):
            return self.first(self.second(x))

    net = Net()
    assert net.layers == [net.second, net.first]
    net.build((None, 4))
    assert net.layers == [net.second, net.first]
