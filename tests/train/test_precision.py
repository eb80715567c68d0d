"""`compile(precision=)`: what is computed in less precision, and what is not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax as ef
from easyflax import layers, nnx
from easyflax.callbacks import LambdaCallback
from easyflax.distribution import DataParallel
from easyflax.errors import NonFiniteLossError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 1))).astype("float32")


class Net(nnx.Module):
    def __init__(self) -> None:
        self.first = nnx.Linear(4, 8, rngs=nnx.Rngs(0))
        self.second = nnx.Linear(8, 1, rngs=nnx.Rngs(1))

    def __call__(self, x: Any) -> Any:
        return self.second(nnx.relu(self.first(x)))


def by_hand(steps: int, dtype: Any) -> tuple[list[float], Any]:
    """Trains `Net` in plain JAX: float32 weights, computation in `dtype`."""
    net, tx = Net(), optax.sgd(0.1, momentum=0.9)
    params: Any = [(one.kernel[...], one.bias[...]) for one in (net.first, net.second)]

    def forward(params: Any, x: Any) -> Any:
        (w1, b1), (w2, b2) = jax.tree.map(lambda param: param.astype(dtype), params)
        return (jax.nn.relu(x.astype(dtype) @ w1 + b1) @ w2 + b2).astype(jnp.float32)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        loss, grads = jax.value_and_grad(lambda params: jnp.mean((forward(params, X) - Y) ** 2))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    state, losses = tx.init(params), []
    for _ in range(steps):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    return losses, (params, jax.jit(forward)(params, X))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_training_a_plain_module_equals_a_loop_with_the_same_casts(precision):
    losses, (params, outputs) = by_hand(5, "float32" if precision == "float32" else "bfloat16")
    model = ef.Model(Net())
    one_device = DataParallel(jax.devices()[:1])  # several would add gradients up in another order
    model.compile(optax.sgd(0.1, momentum=0.9), "mse", precision=precision, distribution=one_device)
    history = model.fit(X, Y, batch_size=16, epochs=5, verbose=0, shuffle=False)
    np.testing.assert_allclose(history.history["loss"], losses, rtol=1e-6)
    np.testing.assert_allclose(model.module.second.kernel[...], params[1][0], rtol=1e-6, atol=1e-6)
    predicted = model.predict(X, batch_size=16, verbose=0)
    np.testing.assert_allclose(predicted, outputs, rtol=1e-6)
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(np.mean((predicted - Y) ** 2), rel=1e-6)


def noting(dtypes: list[str]) -> optax.GradientTransformation:
    def update(updates: Any, state: Any, params: Any = None) -> Any:
        dtypes.extend(leaf.dtype.name for leaf in jax.tree.leaves((updates, params)))
        return jax.tree.map(lambda grad: -0.01 * grad, updates), state

    return optax.GradientTransformation(lambda params: (), update)


class Halved(layers.Layer):
    """Notes what it is given, and keeps a sum in a variable."""

    def __init__(self, notes: list[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.note = notes.append

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight((input_shape[-1], 1))
        self.total = self.add_weight((), "zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        self.note((inputs.dtype.name, self.kernel[...].dtype.name))
        self.total.value = self.total.value + jnp.sum(inputs)
        return inputs @ self.kernel


@pytest.mark.parametrize(
    ("precision", "stored", "computed"),
    [
        ("mixed_bfloat16", "float32", "bfloat16"),
        ("mixed_float16", "float32", "float16"),
        ("bfloat16", "bfloat16", "bfloat16"),
    ],
)
def test_computation_is_in_the_half_type_and_all_that_lasts_is_not(precision, stored, computed):
    grads: list[str] = []
    seen: list[Any] = []
    own: list[Any] = []
    model = ef.Sequential(
        [ef.Input((4,)), layers.BatchNormalization(), Halved(seen), Halved(own, dtype="float32")]
    )
    seen.clear()
    own.clear()
    model.compile(noting(grads), "mse", precision=precision, steps_per_execution=2)
    model.fit(X, Y, batch_size=4, verbose=0)
    assert set(seen) == {(computed, computed)}
    assert set(own) == {("float32", "float32")}
    assert set(grads) == {stored, "float32"}  # the layer with a dtype keeps its weights
    norm, halved, head = model.layers
    assert {norm.moving_mean.dtype, norm.moving_variance.dtype, halved.total.dtype} == {jnp.dtype("float32")}
    assert (halved.kernel.dtype, head.kernel.dtype) == (stored, "float32")
    assert model.predict(X, verbose=0).dtype == np.float32
    seen.clear()
    model(X)
    assert seen[0][0] == "float32"  # outside of the steps


def test_a_precision_holds_until_the_next_compile():
    seen: list[Any] = []
    model = ef.Sequential([ef.Input((4,)), Halved(seen)])
    for precision, dtype in (("bfloat16", "bfloat16"), ("float32", "float32"), (None, "float32")):
        model.compile("sgd", "mse", precision=precision)
        seen.clear()
        model.predict(X, verbose=0)
        assert (seen or [(dtype,)])[0][0] == dtype
        assert model.layers[0].kernel.dtype == dtype


@pytest.mark.parametrize(
    "name", ["BatchNorm", "LayerNorm", "Embed", "OptimizedLSTMCell", "GRUCell", "MultiHeadAttention"]
)
def test_plain_layers_that_were_given_no_dtype_hand_on_the_half_type(name):
    rngs, seen = nnx.Rngs(0), []

    class Around(nnx.Module):
        def __init__(self):
            args = {"Embed": (5, 4), "MultiHeadAttention": (2, 4)}.get(
                name, (4, 4) if "Cell" in name else (4,)
            )
            cls = getattr(nnx, name)
            options = {"decode": False} if name == "MultiHeadAttention" else {}
            layer = cls(*args, rngs=rngs, **options)
            self.layer = nnx.RNN(layer, rngs=rngs) if "Cell" in name else layer
            self.last = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, x):
            y = self.layer(x)
            seen.append(y.dtype.name)
            return self.last(y.astype("float32"))  # which computes in the half type all the same

    x = np.ones((8, 3), np.int32) if name == "Embed" else np.ones((8, 3, 4), np.float32)
    model = ef.Model(Around())
    model.compile("sgd", "mse", precision="mixed_bfloat16")
    model.fit(x, np.ones((8, 3, 4)), verbose=0)
    model.predict(x, verbose=0)
    assert set(seen) == {"bfloat16"}
    assert {weight.dtype.name for weight in model.weights} == {"float32"}


def test_a_train_step_of_ones_own_follows():
    dtypes = {}

    class Own(ef.Model):
        def __init__(self):
            super().__init__()
            self.inner = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
            self.head = layers.Dense(1)

        def call(self, inputs):
            hidden = self.inner(inputs)
            dtypes["hidden"] = hidden.dtype.name
            return self.head(hidden)

        def train_step(self, data):
            x, y = data

            def loss_of(model):
                y_pred = model(x, training=True)
                dtypes["output"] = y_pred.dtype.name
                return self.optimizer.scale_loss(self.compute_loss(x, y, y_pred))

            loss, grads = nnx.value_and_grad(loss_of)(self)
            dtypes["grad"] = jax.tree.leaves(grads)[0].dtype.name
            self.optimizer.update(self, grads)
            return {"loss": loss}

    model = Own()
    model.compile("sgd", "mse", precision="mixed_float16")
    before = model.predict(X, verbose=0)
    model.fit(X, Y, epochs=6, verbose=0)  # the first steps are left out, the scale is too large
    assert dtypes == {"hidden": "float16", "output": "float32", "grad": "float32"}
    assert 1e-2 < np.abs(model.predict(X, verbose=0) - before).max() < 10


def test_a_module_with_a_call_of_its_own_that_is_a_model_follows():
    seen = []

    class Own(ef.Model):
        def __init__(self):
            super().__init__()
            self.inner = nnx.Linear(4, 1, rngs=nnx.Rngs(0))

        def __call__(self, x):
            y = self.inner(x)
            seen.append(y.dtype.name)
            return y

    model = Own()
    model.compile("sgd", "mse", precision="mixed_bfloat16")
    model.fit(X, Y, verbose=0)
    assert set(seen) == {"bfloat16"}


def test_a_module_of_flax_follows():
    flax_nnx = pytest.importorskip("flax.nnx")
    theirs = flax_nnx.Linear(4, 1, rngs=flax_nnx.Rngs(0))
    ours = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
    ours.kernel[...] = jnp.asarray(theirs.kernel[...])
    results = []
    for module in (theirs, ours):
        model = ef.Model(module)
        model.compile(optax.sgd(0.1), "mse", precision="mixed_bfloat16")
        model.fit(X, Y, verbose=0, shuffle=False)
        results.append(np.asarray(module.kernel[...]))
    np.testing.assert_array_equal(*results)
    assert results[0].dtype == np.float32


# -- float16


def tiny_model() -> ef.Model:
    """Whose gradients are too small for float16."""
    model = ef.Sequential([ef.Input((4,)), layers.Dense(1, use_bias=False), layers.Rescaling(1e-4)])
    model.set_weights([np.full((4, 1), 0.5, np.float32)])
    return model


@pytest.mark.parametrize("auto_scale_loss", [True, False], ids=["scaled", "unscaled"])
def test_gradients_that_vanish_in_float16_are_there_with_a_scaled_loss(auto_scale_loss):
    model, before = tiny_model(), np.full((4, 1), 0.5)
    y = np.full((16, 1), 1e-3, np.float32)
    options = {"precision": "mixed_float16", "auto_scale_loss": auto_scale_loss}
    model.compile(ef.optimizers.Adam(0.01, epsilon=1e-12), "mse", **options)
    model.fit(np.abs(X), y, batch_size=16, epochs=2, verbose=0)
    moved = np.abs(model.get_weights()[0] - before)
    assert (moved > 0.01).all() if auto_scale_loss else (moved == 0).all()


def test_a_step_that_overflows_is_left_out_and_halves_the_scale():
    model = ef.Sequential([ef.Input((4,)), layers.Dense(1)])
    optimizer = ef.optimizers.LossScaleOptimizer(ef.optimizers.SGD(0.01), 2.0**10, dynamic_growth_steps=2)
    model.compile(optimizer, "mse", precision="mixed_float16")
    assert model.optimizer is optimizer
    x = np.concatenate([np.full((4, 4), 6e4), np.ones((16, 4))]).astype("float32")
    weights, scales = [], []

    def look(batch, logs):
        weights.append(model.get_weights()[0])
        scales.append(float(optimizer.scale_loss(1.0)))

    before = model.get_weights()[0]
    model.fit(
        x,
        np.ones((20, 1)),
        batch_size=4,
        verbose=0,
        shuffle=False,
        callbacks=[LambdaCallback(on_train_batch_end=look)],
    )
    np.testing.assert_array_equal(weights[0], before)
    assert not np.array_equal(weights[1], before)
    assert scales == [512, 512, 1024, 1024, 2048]
    assert (optimizer.iterations, model.step) == (4, 5)


def test_a_loss_that_stays_nan_is_told_once_no_smaller_scale_helps():
    model = ef.Sequential([ef.Input((4,)), layers.Dense(1)])
    optimizer = ef.optimizers.LossScaleOptimizer(ef.optimizers.SGD(), initial_scale=4.0)
    model.compile(optimizer, "mse", precision="mixed_float16")
    x = np.where(np.arange(4) == 0, np.nan, X)
    model.fit(x[:2], Y[:2], batch_size=1, verbose=0)  # the scale is 1 after that, and may be too large
    with pytest.raises(NonFiniteLossError, match="epoch 1/1, batch 1/"):
        model.fit(x, Y, batch_size=1, verbose=0)


def test_a_fixed_scale_of_the_loss_changes_no_update():
    weights = []
    for scale in (None, 1024.0):
        model = ef.Sequential([ef.Input((4,)), layers.Dense(1, kernel_initializer="ones")])
        model.compile(ef.optimizers.SGD(0.1, loss_scale_factor=scale), "mse")
        model.fit(X, Y, verbose=0, shuffle=False)
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(*weights, rtol=1e-6)
