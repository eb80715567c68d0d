"""Models that are made to fail at a known place."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.callbacks import NaNHunt
from easyflax.errors import NonFiniteLossError
from easyflax.layers import Dense, Input, Layer
from easyflax.models import Model, Sequential
from easyflax.optimizers import SGD

RNG = np.random.default_rng(0)
X = RNG.uniform(0.5, 1.0, size=(16, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


class Power(Layer):
    """|x| ** power, whose derivative at zero is infinite for powers below one."""

    def __init__(self, power, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def call(self, x):
        return jnp.abs(x) ** self.power


class Zero(Layer):
    def call(self, x):
        return x * 0.0


def hunted(model, x=X, y=Y, optimizer=None, loss="mse", batch_size=4, **options):
    """What NaNHunt found, and its message."""
    model.compile(SGD(0.01) if optimizer is None else optimizer, loss)
    hunt = NaNHunt()
    with pytest.raises(NonFiniteLossError) as error:
        model.fit(
            x, y, batch_size=batch_size, shuffle=False, verbose=0, epochs=3, callbacks=[hunt], **options
        )
    return hunt.finding, str(error.value)


@pytest.mark.slow
def test_the_layer_that_overflows_forward_is_named():
    x = X.copy()
    x[9] = 1e30
    model = Sequential([Input((3,)), Dense(2, name="first"), Power(2.0, name="square"), Dense(1)])
    finding, message = hunted(model, x)
    assert finding.where == "the layer 'square' (Power, at 'layers.1') in the forward pass"
    assert "epoch 1/3, batch 3/4" in message
    assert "input: float32 (4, 2), from" in message
    assert "output: float32 (4, 2), 2 infinite, the others from" in message


def test_the_innermost_layer_is_named_with_its_weights():
    inner = Sequential([Dense(2), Power(2.0)], name="inner")
    model = Sequential([Input((3,)), inner, Dense(1)])
    model.layers[0].layers[0].kernel.value = jnp.full((3, 2), 1e30)
    finding, message = hunted(model)
    assert finding.path.endswith("layers.1")
    assert finding.where.startswith("the layer 'power' (Power, at 'layers.")
    linear = Sequential([Input((3,)), Dense(2)])
    linear.layers[0].kernel.value = jnp.full((3, 2), 3e38)
    finding, message = hunted(linear, y=np.zeros((16, 2), "float32"))
    assert "(Dense, at 'layers.0') in the forward pass" in finding.where
    assert "kernel: float32 (3, 2), from 3e+38 to 3e+38" in message


def test_what_is_no_layer_is_told_from_the_layers_around_it():
    class Own(Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = Dense(2), Dense(1)

        def call(self, x):
            return self.second(jnp.log(self.first(x) * 0.0 - 1.0))

    finding, _ = hunted(Own())
    assert finding.where.startswith("what the layer 'second' (Dense) is called on, which no layer before it")


@pytest.mark.slow
def test_the_layer_that_is_infinite_backward_is_named():
    model = Sequential([Input((3,)), Dense(2), Zero(name="zero"), Power(0.5, name="root"), Dense(1)])
    finding, message = hunted(model)
    assert finding.where == "the layer 'root' (Power, at 'layers.2') in the backward pass"
    assert "(gradients, the weights after the step)" in message
    assert "batch 1/4" in message
    assert "gradient of the output of 'zero': float32 (4, 2), 8 infinite" in message


@pytest.mark.slow
def test_a_plain_module_is_searched_too():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(3, 1, rngs=rngs)
            self.norm = nnx.BatchNorm(1, rngs=rngs)

        def __call__(self, x):
            return jnp.sqrt(self.norm(self.linear(x)) - 1e6)

    finding, message = hunted(Model(Net(nnx.Rngs(0))))
    assert finding.where == "the model itself (Net) in the forward pass"
    assert "output: float32 (4, 1), 4 NaN" in message


def test_data_are_looked_at_first():
    x = X.copy()
    x[5, 1] = np.nan
    finding, message = hunted(Sequential([Input((3,)), Dense(1)]), x)
    assert finding.where == "the data: 'x'"
    assert "batch 2/4 (the loss, gradients, the weights after the step)" in message
    assert "x: float32 (4, 3), 1 NaN, the others from 0.5" in message


def test_a_loss_of_finite_outputs_is_named():
    def loss(y_true, y_pred):
        return jnp.log(y_pred * 0.0 - 1.0)[:, 0]

    finding, message = hunted(Sequential([Input((3,)), Dense(1)]), loss=loss)
    assert finding.where == "the loss (loss) of finite outputs"
    assert "y: float32 (4, 1)" in message


def test_a_gradient_that_the_loss_makes_is_told():
    def loss(y_true, y_pred):
        return jnp.sqrt(jnp.sum((y_pred * 0.0) ** 2, axis=-1))

    finding, _ = hunted(Sequential([Input((3,)), Dense(1)]), loss=loss)
    assert finding.where.startswith(
        "what is computed of the output of the layer 'dense' (Dense, at 'layers.0')"
    )


def test_an_update_that_overflows_is_told():
    model = Sequential([Input((3,)), Dense(1)])
    finding, message = hunted(model, y=Y * 1e10, optimizer=SGD(3e38))
    assert finding is None
    assert "Loss and gradients are finite: the update made it. Lower the learning rate." in message


def test_a_finite_fit_goes_through_and_ends_as_without():
    weights = []
    for callbacks in ([], [NaNHunt()]):
        model = Sequential([Input((3,)), Dense(1, kernel_initializer="ones")])
        model.compile("sgd", "mse")
        model.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
        weights.append(np.concatenate([np.ravel(weight) for weight in model.get_weights()]))
    assert weights[0].tolist() == weights[1].tolist()


def test_the_call_of_a_model_with_a_train_step_is_searched():
    class Own(Model):
        def __init__(self):
            super().__init__()
            self.dense, self.power = Dense(2), Power(3.0)

        def call(self, x):
            return self.power(self.dense(x))

        def train_step(self, data):
            x, y = data
            loss, grads = nnx.value_and_grad(lambda model: ((model(x) - y) ** 2).mean())(self)
            self.optimizer.update(self, grads)
            return {"loss": loss}

    x = X.copy()
    x[6] = 1e20
    finding, message = hunted(Own(), x, np.zeros((16, 2), "float32"))
    assert finding.where == "the layer 'power' (Power) in the forward pass"
    assert "batch 2/4" in message


def test_several_steps_of_one_execution_are_refused():
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=2)
    with pytest.raises(ValueError, match=r"NaNHunt: steps_per_execution is 2, expected 1"):
        model.fit(X, Y, verbose=0, callbacks=[NaNHunt()])
