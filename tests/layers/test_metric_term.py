"""What modules add to the logs: sown MetricTerms and add_metric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.layers import Dense, Input, Layer, LossTerm, MetricTerm
from easyflax.layers.metric_term import metric_terms
from easyflax.models import Model, Sequential

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(19, 3)).astype(np.float32), RNG.normal(size=(19, 3)).astype(np.float32)


class Watched(Layer):
    """Adds the mean of its input, and its square."""

    def __init__(self):
        super().__init__()
        self.zero = nnx.Variable(jnp.zeros(()))

    def call(self, inputs):
        self.add_metric(jnp.mean(inputs), "mean")
        self.add_metric(jnp.mean(inputs**2), name="square")
        return inputs


class Sows(nnx.Module):
    def __init__(self):
        self.zero = nnx.Variable(jnp.zeros(()))

    def __call__(self, x):
        self.sow(MetricTerm, "mean", jnp.mean(x))
        self.sow(MetricTerm, "square", jnp.mean(x**2))
        return x


def _stacked(cls):
    return nnx.vmap(lambda key: cls(), in_axes=0, out_axes=0)(jnp.arange(4))


class Scanned(nnx.Module):
    def __init__(self, cls):
        self.layers = _stacked(cls)

    def __call__(self, x):
        return nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers)


class Vmapped(Scanned):
    def __call__(self, x):
        return nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(self.layers, x)[0]


class Rematerialised(nnx.Module):
    def __init__(self, cls):
        self.layer = cls()

    def __call__(self, x):
        return nnx.remat(lambda layer, x: layer(x))(self.layer, x)


class Alone(nnx.Module):
    def __init__(self, cls):
        self.layer = cls()

    def __call__(self, x):
        return self.layer(x)


class Twice(nnx.Module):
    def __init__(self, cls):
        self.layer = cls()

    def __call__(self, x):
        return self.layer(self.layer(x))


class Whole(nnx.Module):
    """What is watched, and a parameter to be trained."""

    def __init__(self, watched):
        self.watched, self.scale = watched, nnx.Param(jnp.ones(3))

    def __call__(self, x):
        return self.watched(x) * self.scale


@pytest.mark.parametrize("cls", [Watched, Sows], ids=["added", "sown"])
@pytest.mark.parametrize("around", [Alone, Twice, Rematerialised, Scanned, Vmapped])
def test_terms_are_logged_as_means_over_rows_in_training_and_evaluation(cls, around):
    model = Model(Whole(around(cls)))
    model.compile("sgd", "mse")
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, validation_data=(X[:5], Y[:5])).history
    assert history["mean"] == pytest.approx([X.mean()] * 2, rel=1e-4)
    assert history["square"] == pytest.approx([np.mean(X**2)] * 2, rel=1e-5)
    assert history["val_mean"] == pytest.approx([X[:5].mean()] * 2, rel=1e-4)
    for batch_size in (7, 100):
        found = model.evaluate(X, Y, batch_size=batch_size, verbose=0, return_dict=True)
        assert list(found) == ["loss", "mean", "square"]
        assert found["mean"] == pytest.approx(X.mean(), rel=1e-4)


def test_plain_calls_do_not_pile_up_what_layers_add():
    model = Sequential([Input((3,)), Watched(), Dense(2), Watched()])
    for _ in range(3):
        outputs = np.asarray(model(X))
    found = metric_terms(model)
    assert float(found["mean"]) == pytest.approx((np.mean(X) + np.mean(outputs)) / 2, rel=1e-4)
    held = jax.tree.leaves(nnx.state(model, MetricTerm))
    assert len(held) == 4


def test_equal_calls_leave_equal_structures():
    layer = Watched()
    layer(X)
    before = nnx.graphdef(layer)
    layer(X)
    assert nnx.graphdef(layer) == before


def test_terms_do_not_change_the_loss_and_may_be_logged_besides_losses():
    class Both(Layer):
        def call(self, inputs):
            self.add_loss([jnp.mean(inputs), 2 * jnp.mean(inputs)])
            self.sow(LossTerm, "sown", jnp.float32(1))
            self.add_metric(5.0, "five")
            return inputs

    model, plain = (Model(Whole(layer)) for layer in (Both(), Watched()))
    for one in (model, plain):
        one.compile("sgd", "mse")
    found = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert found["five"] == 5
    assert found["loss"] == pytest.approx(np.mean((X - Y) ** 2) + 3 * np.mean(X) + 1, rel=1e-5)
    assert plain.evaluate(X, Y, verbose=0, return_dict=True)["loss"] == pytest.approx(
        np.mean((X - Y) ** 2), rel=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (jnp.ones(3), "a"),
            ValueError,
            r"add_metric: got shape \(3,\) in Layer, expected a scalar\. Sum it",
        ),
        ((1.0, None), TypeError, r"add_metric: name is None, expected a string"),
        ((Input((3,)), "a"), TypeError, r"add_metric: got <Symbolic.*a symbolic value, expected an array"),
    ],
    ids=["vector", "no name", "symbolic"],
)
def test_what_is_no_scalar_with_a_name_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Layer().add_metric(*arguments)
