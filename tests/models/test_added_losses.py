"""Regularizers, constraints, losses that layers add, and random streams that the trainer passes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.nnx as nnx
from easyflax.distribution import DataParallel
from easyflax.layers.loss_term import LossTerm, add_loss
from easyflax.models import Model

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(19, 3)).astype(np.float32), RNG.normal(size=(19, 2)).astype(np.float32)


def l2(value):
    return 0.1 * jnp.sum(value**2)


def non_negative(value):
    return jnp.maximum(value, 0)


def _linear(**metadata):
    return nnx.Linear(3, 2, rngs=nnx.Rngs(0), kernel_metadata=metadata)


def _compiled(module, devices=1, optimizer=None, **options):
    model = Model(module)
    distribution = DataParallel(jax.devices()[:devices])
    model.compile(optimizer or optax.sgd(0.1), "mse", distribution=distribution, **options)
    return model


def _by_hand(loss_of, constrain=lambda kernel: kernel, epochs=2, batch_size=8):
    """Returns the mean loss of each epoch and the trained kernel of plain gradient descent."""
    layer = _linear()
    kernel, bias = layer.kernel.value, layer.bias.value
    means = []
    for _ in range(epochs):
        losses, rows = [], []
        for start in range(0, len(X), batch_size):
            batch = X[start : start + batch_size], Y[start : start + batch_size]
            loss, grads = jax.value_and_grad(loss_of, argnums=(0, 1))(kernel, bias, *batch)
            kernel, bias = constrain(kernel - 0.1 * grads[0]), bias - 0.1 * grads[1]
            losses.append(float(loss))
            rows.append(len(batch[0]))
        means.append(np.average(losses, weights=rows))
    return means, kernel, bias


def _mse(kernel, bias, x, y):
    return jnp.mean((x @ kernel + bias - y) ** 2)


@pytest.mark.parametrize("devices", [1, 8])
def test_regularizer_and_constraint_of_a_parameter_are_those_of_a_loop_by_hand(devices):
    model = _compiled(_linear(regularizer=l2, constraint=non_negative), devices)
    history = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    means, kernel, bias = _by_hand(lambda k, *rest: _mse(k, *rest) + l2(k), non_negative)
    assert history.history["loss"] == pytest.approx(means, rel=1e-5)
    np.testing.assert_allclose(model.module.kernel.value, kernel, rtol=1e-5, atol=1e-7)
    assert (np.asarray(model.module.kernel.value) >= 0).all()
    assert model.evaluate(X, Y, batch_size=7, verbose=0) == pytest.approx(
        float(_mse(kernel, bias, X, Y) + l2(kernel)), rel=1e-5
    )


def test_frozen_parameters_are_neither_regularized_nor_constrained():
    class Two(nnx.Module):
        def __init__(self):
            self.first = _linear(regularizer=lambda value: jnp.float32(1e6), constraint=jnp.zeros_like)
            self.second = nnx.Linear(2, 2, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return self.second(self.first(x))

    model = _compiled(Two())
    model.module.first.trainable = False
    before = np.asarray(model.module.first.kernel.value)
    assert model.fit(X, Y, verbose=0).history["loss"][0] < 1e3
    assert np.array_equal(before, model.module.first.kernel.value)


def test_a_constraint_keeps_the_dtype_and_takes_parameters_of_several_arrays():
    class Pair(nnx.Module):
        def __init__(self):
            start = {"w": jnp.ones((3, 2), jnp.bfloat16), "b": jnp.full(2, -1.0)}
            self.pair = nnx.Param(start, constraint=self._clip, regularizer=lambda pair: jnp.sum(pair["b"]))

        @staticmethod
        def _clip(pair):
            return {name: jnp.maximum(value.astype(jnp.float32), 0.5) for name, value in pair.items()}

        def __call__(self, x):
            return x @ self.pair.value["w"] + self.pair.value["b"]

    model = _compiled(Pair())
    model.fit(X, Y, verbose=0)
    assert model.module.pair.value["w"].dtype == jnp.bfloat16
    assert model.module.pair.value["b"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        (
            {"regularizer": lambda value: value},
            ValueError,
            r"regularizer of the parameter 'kernel' returns shape \(3, 2\), expected \(\)\. A regularizer",
        ),
        ({"constraint": jnp.sum}, ValueError, r"constraint of.*returns shape \(\), expected \(3, 2\)"),
        ({"regularizer": "l2"}, TypeError, r"'kernel' has the regularizer 'l2', expected a function\. Pass"),
    ],
    ids=["regularizer", "constraint", "name"],
)
def test_functions_that_do_not_fit_are_refused_before_training(metadata, error, message):
    with pytest.raises(error, match=message):
        _compiled(_linear(**metadata)).fit(X, Y, verbose=0)


class Active(nnx.Module):
    """Penalises its activations by their mean over the rows."""

    def __init__(self):
        self.layer = _linear()

    def __call__(self, x):
        y = self.layer(x)
        add_loss(self, jnp.sum(y**2) / len(x))
        self.sow(nnx.Intermediate, "output", y)
        return y


def _activity(kernel, bias, x, y):
    return _mse(kernel, bias, x, y) + jnp.sum((x @ kernel + bias) ** 2) / len(x)


@pytest.mark.parametrize("devices", [1, 8])
def test_losses_that_layers_add_are_trained_on_and_evaluated_without_padding(devices):
    model = _compiled(Active(), devices)
    model.module(X)  # what the module holds of calls before does not count
    history = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    means, kernel, bias = _by_hand(_activity)
    assert history.history["loss"] == pytest.approx(means, rel=1e-5)
    np.testing.assert_allclose(model.module.layer.kernel.value, kernel, rtol=1e-5, atol=1e-7)
    expected = float(_activity(kernel, bias, X, Y))
    for batch_size in (8, 19, 100):
        assert model.evaluate(X, Y, batch_size=batch_size, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_a_shared_layer_adds_its_loss_at_each_call_also_under_remat():
    class Penalty(nnx.Module):
        def __call__(self, x):
            add_loss(self, jnp.mean(x))
            return x

    class Shared(nnx.Module):
        def __init__(self):
            self.layer, self.penalty = _linear(), Penalty()

        def __call__(self, x):
            again = nnx.remat(lambda penalty, x: penalty(x))
            return again(self.penalty, again(self.penalty, self.penalty(self.layer(x))))

    model = _compiled(Shared())
    prediction = model.predict(X, verbose=0)
    expected = np.mean((prediction - Y) ** 2) + 3 * np.mean(prediction)
    assert model.evaluate(X, Y, batch_size=100, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_losses_of_layers_under_vmap_are_summed():
    class Stacked(nnx.Module):
        def __init__(self):
            self.layers = nnx.vmap(lambda key: Active(), in_axes=0, out_axes=0)(jnp.arange(4))

        def __call__(self, x):
            return jnp.sum(nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(self.layers, x), axis=0)

    model, one = _compiled(Stacked()), _linear()
    y = np.asarray(one(X))
    expected = np.mean((4 * y - Y) ** 2) + 4 * np.sum(y**2) / len(X)
    assert model.evaluate(X, Y, batch_size=100, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_terms_that_a_module_sows_itself_are_added():
    class Sows(Active):
        def __call__(self, x):
            y = self.layer(x)
            self.sow(LossTerm, "terms", jnp.float32(1))
            self.sow(LossTerm, "terms", jnp.float32(2))
            return y

    with_terms, without = _compiled(Sows()), _compiled(_linear())
    losses = [model.evaluate(X, Y, verbose=0) for model in (with_terms, without)]
    assert losses[0] == pytest.approx(losses[1] + 3)


def test_calls_between_two_fits_compile_nothing_anew():
    traces = []

    class Counted(Active):
        def __call__(self, x):
            if isinstance(x, jax.core.Tracer):
                traces.append(1)
            return super().__call__(x)

    model = _compiled(Counted())
    model.fit(X, Y, verbose=0)
    before = len(traces)
    model.module(X)
    model.fit(X, Y, verbose=0)
    assert len(traces) == before
    assert len(model.module.output.value) == 1


# -- random streams


class Noisy(nnx.Module):
    def __init__(self):
        self.layer = _linear()

    def __call__(self, x, rngs):
        return self.layer(x + 0.5 * jax.random.normal(rngs.noise(), x.shape))


@pytest.mark.parametrize("devices", [1, 8])
def test_random_streams_differ_each_step_and_go_on_exactly_from_a_saved_state(devices):
    whole, resumed = _compiled(Noisy(), devices), _compiled(Noisy(), devices)
    whole.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    first = _compiled(Noisy(), devices)
    first.fit(X, Y, batch_size=8, epochs=1, verbose=0)
    resumed.set_state(first.get_state())
    resumed.fit(X, Y, batch_size=8, epochs=2, initial_epoch=1, verbose=0)
    assert all(map(np.array_equal, whole.get_weights(), resumed.get_weights()))


def test_the_streams_come_from_the_seed_and_the_step():
    losses = []
    for seed in (3, 3, 4):
        model = _compiled(Noisy(), optimizer=optax.sgd(0.0), seed=seed)
        losses.append(model.fit(X, Y, batch_size=100, epochs=3, shuffle=False, verbose=0).history["loss"])
    assert losses[0] == losses[1]
    assert not set(losses[0]) & set(losses[2])
    assert len(set(losses[0])) == 3
    for step, loss in enumerate(losses[0]):
        rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(3), step))
        assert np.mean((Noisy()(X, rngs) - Y) ** 2) == pytest.approx(loss, rel=1e-5)


def test_evaluation_and_prediction_use_fixed_streams():
    model = _compiled(Noisy())
    assert np.array_equal(*(model.predict(X, verbose=0) for _ in range(2)))
    model.summary((3,))
    losses = {model.evaluate(X, Y, verbose=0) for _ in range(2)}
    assert len(losses) == 1


def test_layers_of_the_library_draw_from_streams_of_their_own():
    dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
    model = _compiled(nnx.Sequential(_linear(), dropout))
    model.fit(X, Y, batch_size=8, verbose=0)
    assert dropout.rngs.count.value == 3
